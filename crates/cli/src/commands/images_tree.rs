//! `kiste images --tree`: the list of images with all names of each in one place, as Docker draws it for a store that has
//! one platform of each image.

use std::io::IsTerminal as _;

use engine::ImageRow;

use crate::format::human;

/// Width of what is no terminal.
const WIDTH: usize = 80;
const GAP: &str = "   ";
const LEGEND: &str = "Info ->  U In Use ";

/// The tree; with colours, if it is for a terminal.
pub(super) fn shown(images: &[ImageRow]) -> String {
    drawn(images, std::io::stdout().is_terminal())
}

fn drawn(images: &[ImageRow], colours: bool) -> String {
    let names: Vec<Vec<&str>> = images.iter().map(names).collect();
    let width = names.iter().flatten().map(|name| name.len()).chain(["IMAGE".len()]).max().unwrap_or_default();
    let bold = |text: &str| if colours { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
    let title = |text: &str, width: usize| bold(text) + &" ".repeat(width.saturating_sub(text.len()));
    let head = [title("IMAGE", width), title("ID", 12), bold("DISK USAGE"), bold("CONTENT SIZE"), bold("EXTRA")];
    let mut text = format!("{LEGEND:>WIDTH$}\n\n{}\n", head.join(GAP));
    for (image, names) in images.iter().zip(names) {
        let (last, others) = names.split_last().unwrap_or((&"<untagged>", &[]));
        others.iter().for_each(|name| text += &format!("{}\n", bold(name)));
        // The compressed form of the layers is not kept.
        let (id, size, used) = (human::short_id(&image.id), human::short_size(image.size), image.containers > 0);
        let line = [title(last, width), id.to_owned(), format!("{size:>10}"), format!("{:>12}", "0B")].join(GAP);
        text += &format!("{line}{GAP}{}\n", if used { "  U" } else { "" });
    }
    text
}

fn names(image: &ImageRow) -> Vec<&str> {
    match image.repo_tags.is_empty() {
        true => vec!["<untagged>"],
        false => image.repo_tags.iter().map(String::as_str).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_draws_it() {
        let image = |tags: &[&str], containers: usize| ImageRow {
            id: "sha256:d5bfaf1b89ef0de05b0f42655503a5bbaea99e92bbbffdc3c0a0165987fdb76b".to_owned(),
            repo_tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            size: 1_982_291,
            containers,
            ..ImageRow::default()
        };
        let drawn = drawn(&[image(&["other.example/x:1", "busybox:latest"], 0), image(&[], 2)], false);
        let lines: Vec<&str> = drawn.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "                                                              Info ->  U In Use",
                "",
                "IMAGE               ID             DISK USAGE   CONTENT SIZE   EXTRA",
                "other.example/x:1",
                "busybox:latest      d5bfaf1b89ef       1.98MB             0B",
                "<untagged>          d5bfaf1b89ef       1.98MB             0B     U",
            ]
        );
    }
}
