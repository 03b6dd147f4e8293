//! Sessions and backends of tests that do what another does, but for the methods a test is about.

/// Methods of a `Session` that those of the session in field `$inner` do.
macro_rules! delegate_session {
    ($inner:tt: $($method:ident)*) => { $(delegate_session!(@$method $inner);)* };
    (@execute $inner:tt) => {
        fn execute(&mut self, batch: &[crate::backend::Work<'_>]) -> crate::Result<()> {
            self.$inner.execute(batch)
        }
    };
    (@hidden $inner:tt) => {
        fn hidden(&mut self, outputs: std::ops::Range<usize>) -> crate::Result<&[f32]> {
            self.$inner.hidden(outputs)
        }
    };
    (@logits $inner:tt) => {
        fn logits(&mut self, outputs: std::ops::Range<usize>) -> crate::Result<&[f32]> {
            self.$inner.logits(outputs)
        }
    };
    (@choose $inner:tt) => {
        fn choose(&mut self, choices: &[crate::backend::Choice<'_>]) -> crate::Result<()> {
            self.$inner.choose(choices)
        }
    };
    (@candidates $inner:tt) => {
        fn candidates(&self, choice: usize) -> crate::Result<&[crate::backend::Candidate]> {
            self.$inner.candidates(choice)
        }
    };
    (@copy_page $inner:tt) => {
        fn copy_page(&mut self, from: crate::backend::Page, to: crate::backend::Page) {
            self.$inner.copy_page(from, to);
        }
    };
    (@traffic $inner:tt) => {
        fn traffic(&self) -> crate::backend::Traffic {
            self.$inner.traffic()
        }
    };
}

/// All of a `Backend` but `open`, by the name `$name`, as the backend in field `$inner` does it.
macro_rules! delegate_backend {
    ($name:literal, $inner:ident) => {
        fn name(&self) -> &'static str {
            $name
        }

        fn description(&self) -> String {
            format!("{} beside {}", $name, self.$inner.description())
        }

        fn weight_bytes(&self) -> usize {
            self.$inner.weight_bytes()
        }

        fn kv_type(&self) -> crate::backend::KvType {
            self.$inner.kv_type()
        }

        fn page_bytes(&self, kv_type: crate::backend::KvType) -> usize {
            self.$inner.page_bytes(kv_type)
        }
    };
}

pub(crate) use {delegate_backend, delegate_session};
