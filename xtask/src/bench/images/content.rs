//! The images that are pulled: the same bytes every time, with text that compresses like programs and documents do.

use kiste_tests::archive::{Image, Layer, busybox_binary};
use serde_json::json;

const FILES: u64 = 16_000;
/// Which part of the files each layer has, in tenths.
const SHARES: [u64; 4] = [4, 3, 2, 1];
const FILES_PER_DIRECTORY: u64 = 100;
/// Bytes of an average file.
const AVERAGE: u64 = 24_000;
const WORDS: usize = 1024;
/// One in so many pieces of a file is as good as random, as compressed resources are.
const NOISE: u64 = 14;
const PIECE: usize = 1024;

/// 400 MB in 16,000 files and 4 layers, about 160 MB compressed.
pub(super) fn large() -> Image {
    let mut source = Source::new();
    let layers = SHARES.iter().enumerate().map(|(number, share)| {
        let start = if number == 0 { programs() } else { Layer::new() };
        files(start, number, FILES * share / 10, &mut source).finish()
    });
    image("large", layers.collect())
}

/// Programs, and in so many layers above them ten small files each.
pub(super) fn deep(layers: usize) -> Image {
    let mut source = Source::new();
    let more = (1..layers).map(|number| {
        let directory = Layer::new().directory(&format!("layer{number}/"), 0o755);
        let files = (0..10)
            .fold(directory, |layer, file| layer.file(&format!("layer{number}/{file}"), 0o644, &source.text(2000)));
        files.finish()
    });
    image(&format!("deep{layers}"), std::iter::once(programs().finish()).chain(more).collect())
}

fn image(name: &str, layers: Vec<Vec<u8>>) -> Image {
    Image::new(name, layers, json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]}))
}

/// Busybox under the names that are needed, and the directories of a root.
fn programs() -> Layer {
    let directories = ["bin/", "dev/", "etc/", "proc/", "sys/", "tmp/"];
    let layer = directories.iter().fold(Layer::new(), |layer, name| layer.directory(name, 0o755));
    let layer = layer.file("bin/busybox", 0o755, &busybox_binary());
    let names = ["sh", "true", "tar", "wc", "sleep", "head"];
    names.iter().fold(layer, |layer, name| layer.symlink(&format!("bin/{name}"), "busybox"))
}

fn files(mut layer: Layer, number: usize, count: u64, source: &mut Source) -> Layer {
    if number == 0 {
        layer = layer.directory("data/", 0o755);
    }
    layer = layer.directory(&format!("data/{number}/"), 0o755);
    for file in 0..count {
        let directory = format!("data/{number}/{:03}/", file / FILES_PER_DIRECTORY);
        if file % FILES_PER_DIRECTORY == 0 {
            layer = layer.directory(&directory, 0o755);
        }
        let size = source.size();
        layer = layer.file(&format!("{directory}{:02}", file % FILES_PER_DIRECTORY), 0o644, &source.text(size));
    }
    layer
}

/// A small generator (xorshift64*): good enough for content, and the same everywhere.
struct Source {
    state: u64,
    words: Vec<Vec<u8>>,
}

impl Source {
    fn new() -> Self {
        let mut source = Source { state: 0x9e37_79b9_7f4a_7c15, words: Vec::new() };
        source.words = (0..WORDS).map(|_| source.word()).collect();
        source
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    fn word(&mut self) -> Vec<u8> {
        let length = 3 + self.below(9);
        (0..length).map(|_| b'a' + self.below(26) as u8).chain([b' ']).collect()
    }

    /// Many small files and a few large ones.
    fn size(&mut self) -> usize {
        let fraction = self.below(1000);
        (fraction * fraction * fraction * AVERAGE * 4 / 1_000_000_000 + 200) as usize
    }

    /// Words, the first ones of the vocabulary more often than the last ones, and noise between them.
    fn text(&mut self, size: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(size + PIECE);
        while text.len() < size {
            let end = text.len() + PIECE;
            if self.below(NOISE) == 0 {
                text.extend(std::iter::repeat_with(|| self.next().to_le_bytes()).take(PIECE / 8).flatten());
            }
            while text.len() < end {
                let most = self.below(WORDS as u64) + 1;
                let word = self.below(most) as usize;
                text.extend_from_slice(&self.words[word]);
            }
        }
        text.truncate(size);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_every_time() {
        let (one, two) = (deep(3), deep(3));
        assert_eq!((one.layers.len(), &one.layers), (3, &two.layers));
        let mut source = Source::new();
        let mean = (0..10_000).map(|_| source.size()).sum::<usize>() / 10_000;
        assert!((22_000..27_000).contains(&mean), "{mean}");
    }
}
