//! A file system whose files are changed by somebody else: `elsewhere FOLDER PLACE PROGRAM …` shows
//! FOLDER at PLACE, read-only, through the kernel's interface for file systems in user space, and
//! runs the program meanwhile. What happens in FOLDER is told to nobody who looks at PLACE, as on
//! a file server. To be called in a mount namespace of its own.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

unsafe extern "C" {
    fn mount(
        source: *const std::ffi::c_char,
        target: *const std::ffi::c_char,
        kind: *const std::ffi::c_char,
        flags: std::ffi::c_ulong,
        data: *const std::ffi::c_void,
    ) -> std::ffi::c_int;
}

fn main() {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
    let text = |bytes: &[u8]| CString::new(bytes).unwrap();
    let (kind, place) = (text(b"fuse"), text(args[1].as_bytes()));
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = text(options.as_bytes());
    // Without set-id programs and devices, read-only.
    let flags = 1 | 2 | 4;
    let done = unsafe {
        mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
    };
    if done != 0 {
        eprintln!("cannot mount: {}", io::Error::last_os_error());
        std::process::exit(99);
    }
    let root = PathBuf::from(&args[0]);
    std::thread::spawn(move || Server::new(root).serve(device));
    let status = std::process::Command::new(&args[2]).args(&args[3..]).status().unwrap();
    std::process::exit(status.code().unwrap_or(1));
}

struct Server {
    paths: Vec<PathBuf>,
    numbers: HashMap<PathBuf, u64>,
}

type Answer = Result<Vec<u8>, i32>;

fn number(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(5)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn attributes(of: &Metadata) -> Vec<u8> {
    let mut out = Vec::new();
    let times = [of.atime(), of.mtime(), of.ctime()];
    for value in [of.ino(), of.size(), of.blocks()] {
        out.extend(value.to_ne_bytes());
    }
    times.iter().for_each(|time| out.extend(time.to_ne_bytes()));
    for rest in [of.atime_nsec(), of.mtime_nsec(), of.ctime_nsec()] {
        out.extend((rest as u32).to_ne_bytes());
    }
    for value in [of.mode(), of.nlink() as u32, of.uid(), of.gid(), 0, of.blksize() as u32, 0] {
        out.extend(value.to_ne_bytes());
    }
    out
}

impl Server {
    fn new(root: PathBuf) -> Self {
        // Numbers begin at 1, which is the root's.
        Self { paths: vec![PathBuf::new(), root.clone()], numbers: HashMap::from([(root, 1)]) }
    }

    fn serve(mut self, mut device: File) {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = match device.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.raw_os_error() == Some(2) => continue,
                // Unmounted.
                Err(_) => return,
            };
            let (code, unique, node) = (word(&buffer, 4), long(&buffer, 8), long(&buffer, 16));
            // Forgetting and interrupting want no answer.
            if [2, 36, 42].contains(&code) {
                continue;
            }
            let path = self.paths[node as usize].clone();
            let answer = self.answer(code, &path, &buffer[40..length]);
            let (error, body) = match answer {
                Ok(body) => (0, body),
                Err(error) => (-error, Vec::new()),
            };
            let mut out = Vec::with_capacity(16 + body.len());
            out.extend((16 + body.len() as u32).to_ne_bytes());
            out.extend(error.to_ne_bytes());
            out.extend(unique.to_ne_bytes());
            out.extend(body);
            // Whoever asked may be gone.
            let _ = device.write_all(&out);
        }
    }

    fn answer(&mut self, code: u32, path: &Path, body: &[u8]) -> Answer {
        match code {
            // Lookup.
            1 => {
                let name = OsStr::from_bytes(body.split(|byte| *byte == 0).next().unwrap());
                let path = path.join(name);
                let metadata = fs::symlink_metadata(&path).map_err(number)?;
                let next = self.paths.len() as u64;
                let known = *self.numbers.entry(path.clone()).or_insert(next);
                if known == next {
                    self.paths.push(path);
                }
                let mut out = known.to_ne_bytes().to_vec();
                // Nothing of it may be remembered.
                out.extend([0; 32]);
                out.extend(attributes(&metadata));
                Ok(out)
            }
            // Attributes.
            3 => {
                let metadata = fs::symlink_metadata(path).map_err(number)?;
                let mut out = vec![0; 16];
                out.extend(attributes(&metadata));
                Ok(out)
            }
            // A link's target.
            5 => Ok(fs::read_link(path).map_err(number)?.as_os_str().as_bytes().to_vec()),
            // Open a file or a folder: by no handle.
            14 | 27 => Ok(vec![0; 16]),
            // Read.
            15 => {
                let mut out = vec![0; word(body, 16) as usize];
                let file = File::open(path).map_err(number)?;
                let length = file.read_at(&mut out, long(body, 8)).map_err(number)?;
                out.truncate(length);
                Ok(out)
            }
            // Room on the disk.
            17 => Ok(vec![0; 80]),
            // Release, flush, release a folder, may I, the end.
            18 | 25 | 29 | 34 | 38 => Ok(Vec::new()),
            // The first word: version 7.31, and no wishes.
            26 => {
                let mut out = Vec::new();
                for value in [7, 31, 0, 0, 0, 4096, 1, 0] {
                    out.extend(u32::to_ne_bytes(value));
                }
                out.resize(64, 0);
                Ok(out)
            }
            // A folder's entries, from a place on.
            28 => {
                let (offset, room) = (long(body, 8) as usize, word(body, 16) as usize);
                let mut names: Vec<_> = fs::read_dir(path)
                    .map_err(number)?
                    .flatten()
                    .map(|entry| (entry.file_name(), entry.metadata()))
                    .collect();
                names.sort_by(|a, b| a.0.cmp(&b.0));
                let mut out = Vec::new();
                for (at, (name, metadata)) in names.iter().enumerate().skip(offset) {
                    let Ok(metadata) = metadata else { continue };
                    let size = (24 + name.len()).next_multiple_of(8);
                    if out.len() + size > room {
                        break;
                    }
                    let end = out.len() + size;
                    out.extend(metadata.ino().to_ne_bytes());
                    out.extend((at as u64 + 1).to_ne_bytes());
                    out.extend((name.len() as u32).to_ne_bytes());
                    out.extend((metadata.mode() >> 12).to_ne_bytes());
                    out.extend(name.as_bytes());
                    out.resize(end, 0);
                }
                Ok(out)
            }
            _ => Err(38),
        }
    }
}
