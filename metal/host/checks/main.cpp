// checks LIBRARY [CHECK ...]: runs all checks, or those named, against a library of kernels.

#include <chrono>
#include <cstdio>
#include <exception>
#include <set>

#include "check.h"

std::vector<Check> &checks() {
    static std::vector<Check> all;
    return all;
}

int main(int count, char **arguments) {
    if (count < 2) {
        std::fprintf(stderr, "usage: checks LIBRARY [CHECK ...]\n");
        return 2;
    }
    const std::set<std::string> wanted(arguments + 2, arguments + count);
    size_t run = 0;
    int failed = 0;
    try {
        const Device device(arguments[1]);
        for (const Check &check : checks()) {
            if (!wanted.empty() && wanted.count(check.name) == 0) {
                continue;
            }
            ++run;
            const auto start = std::chrono::steady_clock::now();
            try {
                check.run(device);
                const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
                std::printf("ok      %s (%.1f s)\n", check.name, took.count());
            } catch (const std::exception &error) {
                ++failed;
                std::printf("FAILED  %s: %s\n", check.name, error.what());
            }
            std::fflush(stdout);
        }
        for (const std::string &kernel : wanted.empty() ? device.untouched() : std::vector<std::string>()) {
            ++failed;
            std::printf("FAILED  no check ran %s\n", kernel.c_str());
        }
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
    if (run == 0 || (!wanted.empty() && run != wanted.size())) {
        std::fprintf(stderr, "there is no such check\n");
        return 2;
    }
    return failed > 0 ? 1 : 0;
}
