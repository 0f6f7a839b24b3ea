//! Compiled profiles kept on disk by content: the same profile is compiled once per machine, not once per start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use linux::seccomp::{Instruction, MAX_INSTRUCTIONS};
use oci_spec::runtime::LinuxSeccomp;
use sha2::{Digest, Sha256};

use super::{Program, compile};

/// Bytes of one instruction.
const SIZE: usize = size_of::<Instruction>();

/// Like [`compile`], with the results kept in `directory`, which is made if need be and must be writable by nobody but
/// its owner. A cache that cannot be used is no error, only slower.
pub fn compile_cached(profile: &LinuxSeccomp, directory: &Path) -> Result<Program, String> {
    let Some(path) = key(profile).map(|key| directory.join(key)) else { return compile(profile) };
    if let Some(program) = read(&path) {
        return Ok(program);
    }
    let program = compile(profile)?;
    let _ = write(directory, &path, &program);
    Ok(program)
}

/// What the program depends on: the profile and the compiler.
fn key(profile: &LinuxSeccomp) -> Option<String> {
    let text = serde_json::to_vec(profile).ok()?;
    let compiler = concat!(env!("CARGO_PKG_VERSION"), "-1");
    let digest = Sha256::new().chain_update(compiler).chain_update(text).finalize();
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file that is damaged, or that somebody else may have written, is none.
fn read(path: &Path) -> Option<Program> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    if !metadata.is_file() || !own || metadata.len() > (4 + MAX_INSTRUCTIONS * SIZE) as u64 {
        return None;
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.read_to_end(&mut bytes).ok()?;
    let (flags, code) = bytes.split_first_chunk::<4>()?;
    let instructions: Vec<Instruction> = code.chunks_exact(SIZE).map(decode).collect();
    let whole = code.len() % SIZE == 0 && !instructions.is_empty();
    whole.then_some(Program { instructions, flags: u32::from_ne_bytes(*flags) })
}

fn decode(bytes: &[u8]) -> Instruction {
    let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
    let k = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    Instruction { code, jt: bytes[2], jf: bytes[3], k }
}

/// Under another name first, so that nobody reads half of it.
fn write(directory: &Path, path: &Path, program: &Program) -> io::Result<()> {
    if !directory.is_dir() {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    }
    let mut bytes = program.flags.to_ne_bytes().to_vec();
    for Instruction { code, jt, jf, k } in &program.instructions {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_ne_bytes());
    }
    let unfinished = path.with_extension(rustix::process::getpid().as_raw_nonzero().to_string());
    let written = create(&unfinished).and_then(|mut file| file.write_all(&bytes));
    written.and_then(|()| fs::rename(&unfinished, path)).inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(errno: u32) -> LinuxSeccomp {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": {errno},
                "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW"}}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn files(directory: &Path) -> Vec<std::path::PathBuf> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn profiles_are_found_again_by_content() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("seccomp");
        let first = compile_cached(&profile(1), &cache).unwrap();
        assert_eq!(first, compile(&profile(1)).unwrap());
        let [file] = &files(&cache)[..] else { panic!("one file") };
        assert_eq!(read(file).unwrap(), first);
        compile_cached(&profile(2), &cache).unwrap();
        assert_eq!(files(&cache).len(), 2);
        // What is read is what was kept, not what would be compiled.
        write(&cache, file, &compile(&profile(3)).unwrap()).unwrap();
        assert_eq!(compile_cached(&profile(1), &cache).unwrap(), compile(&profile(3)).unwrap());
    }

    #[test]
    fn what_is_damaged_or_not_ours_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        compile_cached(&profile(1), directory.path()).unwrap();
        let [file] = &files(directory.path())[..] else { panic!("one file") };
        let whole = fs::read(file).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..4], b"", &vec![0; 1 << 20]] {
            fs::write(file, damaged).unwrap();
            assert_eq!(read(file), None);
            assert_eq!(compile_cached(&profile(1), directory.path()).unwrap(), compile(&profile(1)).unwrap());
        }
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(file, mode(0o666)).unwrap();
        assert_eq!(read(file), None);
    }
}
