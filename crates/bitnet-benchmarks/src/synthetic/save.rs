//! A synthetic model as a Hugging Face folder, for other programs to run.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;

use bitnet_core::DType;
use bitnet_inference::{Error, Result};
use safetensors::tensor::{Dtype, View, serialize_to_file};

use super::Synthetic;
use super::tensors::{Spec, specs};

impl Synthetic {
    /// Writes the model as `config.json`, `generation_config.json` and `model.safetensors`, one tensor in memory at a
    /// time. Each file gets its name when it is complete, the config last.
    ///
    /// Errors: [`Error::Io`]; a `folder` that holds files already is one.
    pub fn save(&self, folder: &Path, threads: usize) -> Result<()> {
        let at_folder = |source| Error::io(folder, source);
        std::fs::create_dir_all(folder).map_err(at_folder)?;
        if std::fs::read_dir(folder).map_err(at_folder)?.next().is_some() {
            let reason = "is not empty; give a new folder";
            return Err(at_folder(io::Error::new(io::ErrorKind::AlreadyExists, reason)));
        }
        publish(&folder.join("model.safetensors"), |path| {
            let tensors =
                specs(self).into_iter().map(|spec| (spec.name.clone(), Generated { spec, threads }));
            let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            serialize_to_file(tensors, Some(format), path).map_err(io::Error::other)
        })?;
        for (name, content) in
            [("generation_config.json", self.generation_config_json()), ("config.json", self.config_json())]
        {
            publish(&folder.join(name), |path| std::fs::write(path, format!("{content:#}\n")))?;
        }
        Ok(())
    }
}

/// A tensor that is made when it is written.
struct Generated {
    spec: Spec,
    threads: usize,
}

impl View for Generated {
    fn dtype(&self) -> Dtype {
        match self.spec.dtype() {
            DType::U8 => Dtype::U8,
            _ => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.spec.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.spec.bytes(self.threads).into()
    }

    fn data_len(&self) -> usize {
        self.spec.size_bytes()
    }
}

/// Writes a file beside its destination and renames it; leaves nothing behind when that fails.
fn publish(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let mut partial = path.to_owned();
    partial.as_mut_os_string().push(".part");
    write(&partial).and_then(|()| std::fs::rename(&partial, path)).map_err(|source| {
        drop(std::fs::remove_file(&partial));
        Error::io(path, source)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitnet_core::{Device, ThreadPool};
    use bitnet_inference::Checkpoint;
    use bitnet_inference::backend::cpu::CpuOptions;

    use super::*;
    use crate::Subject;

    const SHAPE: Synthetic = Synthetic::TINY;

    #[test]
    fn a_saved_model_has_the_same_logits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        SHAPE.save(&path, 2).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["config.json", "generation_config.json", "model.safetensors"]);
        let pool = Arc::new(ThreadPool::new(2).unwrap());
        let logits = |checkpoint: Checkpoint| {
            let subject =
                Subject::new(Device::Cpu, checkpoint, None, Arc::clone(&pool), &CpuOptions::default())
                    .unwrap();
            let mut sequence = subject.start(3).unwrap();
            sequence.feed(&[1, 700, 42], 3).unwrap();
            sequence.logits(3).unwrap().to_vec()
        };
        let made = logits(SHAPE.checkpoint(&pool).unwrap());
        assert_eq!(logits(Checkpoint::open(&path).unwrap()), made);
        let square = made.iter().map(|logit| logit * logit).sum::<f32>() / made.len() as f32;
        assert!((1.0..10.0).contains(&square.sqrt()), "logits spread by a few units: {square}");
    }

    #[test]
    fn a_folder_with_files_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), "mine").unwrap();
        let error = SHAPE.save(folder.path(), 1).unwrap_err().to_string();
        assert!(error.ends_with("is not empty; give a new folder"), "{error}");
        assert_eq!(std::fs::read(folder.path().join("config.json")).unwrap(), b"mine");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let failure =
            |path: &Path| std::fs::write(path, "half").and_then(|()| Err(io::Error::other("disk full")));
        let error = publish(&folder.path().join("config.json"), failure).unwrap_err().to_string();
        assert!(error.ends_with("config.json: disk full"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
