#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace msl {

namespace {

size_t page_bytes() {
    static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
    return bytes;
}

}  // namespace

Stack::Stack() {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *mapping = mmap(nullptr, BYTES + page_bytes(), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mapping == MAP_FAILED || mprotect(mapping, page_bytes(), PROT_NONE) != 0) {
        throw std::bad_alloc();
    }
    mapping_ = static_cast<char *>(mapping);
}

Stack::~Stack() { munmap(mapping_, BYTES + page_bytes()); }

char *Stack::bottom() const { return mapping_ + page_bytes(); }

struct Fiber::State {
#if defined(__x86_64__)
    void *stack_pointer = nullptr;
#else
    ucontext_t context;
#endif
    // For sanitizers: the stack, and what they keep of it while another runs.
    const void *bottom = nullptr;
    size_t bytes = 0;
    void *shadow = nullptr;
    Fiber *from = nullptr;
};

Fiber::Fiber() : state_(new State) {}
Fiber::~Fiber() = default;

#if defined(__x86_64__)

// Saves the registers that a function has to keep, and takes those of the other stack.
extern "C" void msl_switch_stacks(void **save, void *to);
asm(R"(
.pushsection .text
.globl msl_switch_stacks
.hidden msl_switch_stacks
.type msl_switch_stacks, @function
msl_switch_stacks:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size msl_switch_stacks, . - msl_switch_stacks
.popsection
)");

#endif

void Fiber::begin(const Stack &stack, void (*entry)()) {
    state_->bottom = stack.bottom();
    state_->bytes = Stack::BYTES;
    state_->shadow = nullptr;
#if defined(__x86_64__)
    auto **top = reinterpret_cast<void **>(stack.bottom() + Stack::BYTES);
    *--top = nullptr;  // So that the entry finds the stack aligned as after a call.
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; ++i) {
        *--top = nullptr;
    }
    state_->stack_pointer = top;
#else
    getcontext(&state_->context);
    state_->context.uc_stack.ss_sp = stack.bottom();
    state_->context.uc_stack.ss_size = Stack::BYTES;
    state_->context.uc_link = nullptr;
    makecontext(&state_->context, entry, 0);
#endif
}

void Fiber::switch_to(Fiber &from, Fiber &to, [[maybe_unused]] bool ends) {
    to.state_->from = &from;
#if __has_feature(address_sanitizer)
    void **shadow = ends ? nullptr : &from.state_->shadow;
    __sanitizer_start_switch_fiber(shadow, to.state_->bottom, to.state_->bytes);
#endif
#if defined(__x86_64__)
    msl_switch_stacks(&from.state_->stack_pointer, to.state_->stack_pointer);
#else
    swapcontext(&from.state_->context, &to.state_->context);
#endif
    arrived(from);
}

void Fiber::arrived([[maybe_unused]] Fiber &self) {
#if __has_feature(address_sanitizer)
    // Whoever came from the thread's own stack learns here where that is.
    State &other = *self.state_->from->state_;
    __sanitizer_finish_switch_fiber(self.state_->shadow, &other.bottom, &other.bytes);
#endif
}

}  // namespace msl
