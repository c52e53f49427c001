//! The directory that stands for `/proc`: files in its `net`, each replaced as a whole.
//!
//! **Invariant**: nothing is followed that another user may have put there. `net` is opened once and must be a
//! directory itself; a new text goes to a new file beside the old one and takes its name in one step.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::control::proc_files::{CONNECTION_TABLES, SUMMARIES};
use crate::host::options::{ExitStatus, StartError};

/// Mode of the kernel's files: everyone may read them. The directory's own mode can restrict it.
const MODE: u32 = 0o444;
/// The kernel's number of a proc file system (`include/uapi/linux/magic.h`).
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// `DIR/net`, for this process alone to write; dropped, it takes `net` away if it was made here and is empty.
pub struct Directory {
    path: PathBuf,
    top: OwnedFd,
    net: OwnedFd,
    made_net: bool,
}

impl Directory {
    /// Opens `path` and makes `net` in it, unless it is there.
    ///
    /// # Errors
    /// When `path` is no directory, the kernel's own `/proc`, not writable, or another process writes there.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| refusal(path, error))?;
        refuse_kernel(&top, path)?;
        let net_path = path.join("net");
        let made_net = match rustix::fs::mkdirat(&top, "net", Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(refusal(path, error)),
        };
        let net = rustix::fs::openat(&top, "net", flags | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|error| refusal(&net_path, error))?;
        refuse_kernel(&net, &net_path)?;
        if rustix::fs::flock(&net, FlockOperation::NonBlockingLockExclusive).is_err() {
            let text = format!("{}: another lvx proc or lvxd --proc writes there", net_path.display());
            return Err(StartError::new(ExitStatus::Busy, text));
        }
        let directory = Self { path: net_path, top, net, made_net };
        directory.probe()?;
        Ok(directory)
    }

    /// Says now what would go wrong later.
    fn probe(&self) -> Result<(), StartError> {
        for name in SUMMARIES.iter().chain(&CONNECTION_TABLES) {
            let found = rustix::fs::statat(&self.net, *name, AtFlags::SYMLINK_NOFOLLOW);
            if found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) != FileType::RegularFile) {
                let text = format!("{}: there is something that is no file", self.path.join(name).display());
                return Err(StartError::new(ExitStatus::Usage, text));
            }
        }
        let refused = |error: io::Error| refusal(&self.path, Errno::from_io_error(&error).unwrap_or(Errno::IO));
        self.draft(SUMMARIES[0]).map(drop).map_err(refused)
    }

    /// Begins a new text for a file; readers see the old one until it is committed.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn draft<'a>(&'a self, name: &'a str) -> io::Result<Draft<'a>> {
        let temporary = format!(".{name}.lvx");
        // One left behind by a process that was killed; that there is none is as good.
        let _ = rustix::fs::unlinkat(&self.net, temporary.as_str(), AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.net, temporary.as_str(), flags, Mode::from_raw_mode(0o600))?;
        Ok(Draft { directory: self, name, temporary, file: File::from(file), is_named: false })
    }

    /// Removes a file; one that is not there is as good.
    pub fn remove(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.net, name, AtFlags::empty());
    }

    /// Removes all files of its kind.
    pub fn clear(&self) {
        SUMMARIES.iter().chain(&CONNECTION_TABLES).for_each(|name| self.remove(name));
    }

    /// `DIR/net`, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.made_net {
            // With files in it, it stays.
            let _ = rustix::fs::unlinkat(&self.top, "net", AtFlags::REMOVEDIR);
        }
    }
}

/// A text on its way; dropped before it is committed, it leaves nothing behind.
pub struct Draft<'a> {
    directory: &'a Directory,
    name: &'a str,
    temporary: String,
    file: File,
    is_named: bool,
}

impl Draft<'_> {
    /// Appends.
    ///
    /// # Errors
    /// When the file system refuses: it is full, as a rule.
    pub fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets)
    }

    /// Puts the text in the place of the old one.
    ///
    /// # Errors
    /// When the file system refuses; the old text stays.
    pub fn commit(mut self) -> io::Result<()> {
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(MODE))?;
        let net = &self.directory.net;
        rustix::fs::renameat(net, self.temporary.as_str(), net, self.name)?;
        self.is_named = true;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.is_named {
            let _ = rustix::fs::unlinkat(&self.directory.net, self.temporary.as_str(), AtFlags::empty());
        }
    }
}

fn refuse_kernel(descriptor: &OwnedFd, path: &Path) -> Result<(), StartError> {
    let kind = rustix::fs::fstatfs(descriptor).map_err(|error| refusal(path, error))?.f_type;
    if kind as u64 != PROC_SUPER_MAGIC {
        return Ok(());
    }
    let text = format!("{} is the kernel's own; name a directory of your own, such as /run/lvx/proc", path.display());
    Err(StartError::new(ExitStatus::Usage, text))
}

fn refusal(path: &Path, error: Errno) -> StartError {
    let exit = match error {
        Errno::ACCESS | Errno::PERM => ExitStatus::Rights,
        _ => ExitStatus::Usage,
    };
    let reason = match error {
        // What opening a symbolic link without following it gives.
        Errno::LOOP => "it is a symbolic link, which is not followed".to_owned(),
        _ => error.to_string(),
    };
    StartError::new(exit, format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// A directory that goes with the value.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Relaxed);
            let path = std::env::temp_dir().join(format!("lvx-proc-{}-{number}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.0.join("net")).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn error(path: &Path) -> String {
        Directory::open(path).map(drop).unwrap_err().text
    }

    #[test]
    fn a_text_appears_whole_with_the_kernel_s_mode() {
        let scratch = Scratch::new();
        let directory = Directory::open(&scratch.0).unwrap();
        let file = scratch.0.join("net/ip_vs");
        for text in ["first\n", "second\n"] {
            let before = std::fs::read_to_string(&file).ok();
            let mut draft = directory.draft("ip_vs").unwrap();
            draft.write(text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&file).ok(), before, "the old text stays until the new one is whole");
            draft.commit().unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o444);
        assert_eq!(scratch.names(), ["ip_vs"]);
        directory.clear();
        drop(directory);
        assert!(!scratch.0.join("net").exists(), "what was made is taken away");
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let scratch = Scratch::new();
        let directory = Directory::open(&scratch.0).unwrap();
        directory.draft("ip_vs").unwrap().write(b"half").unwrap();
        assert!(scratch.names().is_empty());
    }

    #[test]
    fn what_others_put_there_stays() {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.0.join("net")).unwrap();
        std::fs::write(scratch.0.join("net/dev"), "").unwrap();
        let directory = Directory::open(&scratch.0).unwrap();
        directory.draft("ip_vs").unwrap().commit().unwrap();
        directory.clear();
        drop(directory);
        assert_eq!(scratch.names(), ["dev"]);
    }

    #[test]
    fn links_are_not_followed() {
        let scratch = Scratch::new();
        let elsewhere = Scratch::new();
        symlink(&elsewhere.0, scratch.0.join("net")).unwrap();
        let text = error(&scratch.0);
        assert!(text.contains("/net: "), "{text}");
        std::fs::remove_file(scratch.0.join("net")).unwrap();

        let victim = elsewhere.0.join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        let directory = Directory::open(&scratch.0).unwrap();
        symlink(&victim, scratch.0.join("net/.ip_vs.lvx")).unwrap();
        symlink(&victim, scratch.0.join("net/ip_vs")).unwrap();
        let mut draft = directory.draft("ip_vs").unwrap();
        draft.write(b"new").unwrap();
        draft.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(scratch.0.join("net/ip_vs").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn wrong_directories_are_named_with_the_reason() {
        let scratch = Scratch::new();
        let absent = scratch.0.join("absent");
        assert_eq!(error(&absent), format!("{}: No such file or directory (os error 2)", absent.display()));
        let file = scratch.0.join("file");
        std::fs::write(&file, "").unwrap();
        assert!(error(&file).contains("Not a directory"));
        assert!(error(Path::new("/proc")).contains("the kernel's own"));
        std::fs::create_dir_all(scratch.0.join("net/ip_vs_conn")).unwrap();
        assert!(error(&scratch.0).contains("net/ip_vs_conn: there is something that is no file"));
    }

    #[test]
    fn one_writer_at_a_time() {
        let scratch = Scratch::new();
        let first = Directory::open(&scratch.0).unwrap();
        assert!(error(&scratch.0).contains("another lvx proc"));
        drop(first);
        Directory::open(&scratch.0).unwrap();
    }
}
