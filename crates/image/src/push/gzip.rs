//! Gzip on all processors: blocks are compressed independently and joined to one stream, always in the same way, so that the
//! same layer becomes the same blob each time.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Bytes of a block. The stream depends on it.
const BLOCK: usize = 1 << 20;
/// What Docker uses, too.
const LEVEL: u32 = 6;
/// Deflate, no name, no time, unknown system (RFC 1952).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty last block (RFC 1951): all others say that more is to come.
const END: [u8; 2] = [3, 0];

/// A compressed block, and the checksum of what was in it.
type Packed = io::Result<(Vec<u8>, Crc)>;

/// The compressed stream.
pub(super) struct Gzip {
    /// Results to come, in order.
    blocks: Receiver<Receiver<Packed>>,
    ready: VecDeque<u8>,
    sum: Crc,
    ended: bool,
}

impl Gzip {
    pub(super) fn new(input: impl Read + Send + 'static) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
        let (order, blocks) = sync_channel(workers * 2);
        let (jobs, queue) = sync_channel::<(Vec<u8>, SyncSender<Packed>)>(workers);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..workers {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || work(&queue));
        }
        // Ends when the stream is dropped: then nobody takes its blocks.
        std::thread::spawn(move || cut(input, &jobs, &order));
        Gzip { blocks, ready: HEADER.into(), sum: Crc::new(), ended: false }
    }
}

/// Cuts the input into blocks.
fn cut(mut input: impl Read, jobs: &SyncSender<(Vec<u8>, SyncSender<Packed>)>, order: &SyncSender<Receiver<Packed>>) {
    loop {
        let (sender, receiver) = sync_channel(1);
        let mut block = Vec::with_capacity(BLOCK);
        let read = input.by_ref().take(BLOCK as u64).read_to_end(&mut block);
        if matches!(read, Ok(0)) || order.send(receiver).is_err() {
            return;
        }
        if let Err(error) = read {
            // Whoever waits for the block gets the failure; if nobody does, it does not matter.
            let _ = sender.send(Err(error));
            return;
        }
        if jobs.send((block, sender)).is_err() {
            return;
        }
    }
}

fn work(queue: &Mutex<Receiver<(Vec<u8>, SyncSender<Packed>)>>) {
    loop {
        let job = queue.lock().map(|queue| queue.recv());
        let Ok(Ok((block, sender))) = job else { return };
        // Nobody waits for it any more: the next one ends the work.
        let _ = sender.send(pack(&block));
    }
}

fn pack(block: &[u8]) -> Packed {
    let mut sum = Crc::new();
    sum.update(block);
    let mut packer = Compress::new(Compression::new(LEVEL), false);
    let mut packed = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let rest = &block[packer.total_in() as usize..];
        packer.compress_vec(rest, &mut packed, FlushCompress::Sync).map_err(io::Error::other)?;
        // Room that is left means that everything is out, the mark at the end too.
        if packer.total_in() as usize == block.len() && packed.len() < packed.capacity() {
            return Ok((packed, sum));
        }
        packed.reserve(block.len() / 4 + 1024);
    }
}

impl Read for Gzip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.ended {
            match self.blocks.recv() {
                Ok(block) => {
                    let (packed, sum) = block.recv().map_err(|_| io::Error::other("a compressing thread died"))??;
                    self.sum.combine(&sum);
                    self.ready = packed.into();
                }
                Err(_) => {
                    self.ended = true;
                    self.ready.extend(END);
                    self.ready.extend(self.sum.sum().to_le_bytes());
                    self.ready.extend(self.sum.amount().to_le_bytes());
                }
            }
        }
        self.ready.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        Gzip::new(io::Cursor::new(bytes.to_vec())).read_to_end(&mut packed).unwrap();
        packed
    }

    #[test]
    fn anybody_can_inflate_it_and_it_is_always_the_same() {
        let noise = (0..700_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
        let text = b"hello hello hello ".iter().copied().cycle().take(BLOCK);
        let mixed: Vec<u8> = noise.chain(text).collect();
        for bytes in [&b""[..], b"x", &mixed, &mixed[..BLOCK], &mixed[..BLOCK + 1]] {
            let one = packed(bytes);
            let mut back = Vec::new();
            // Without support for several members: it must be one stream.
            flate2::read::GzDecoder::new(&one[..]).read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{} bytes", bytes.len());
            assert!(one == packed(bytes));
        }
    }

    #[test]
    fn a_failure_of_the_input_is_one_of_the_stream() {
        struct Broken(bool);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("broken"));
                }
                buffer.fill(1);
                Ok(buffer.len())
            }
        }
        let error = Gzip::new(Broken(false)).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}
