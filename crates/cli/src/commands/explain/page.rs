//! A page of 80 columns: headings, wrapped paragraphs, facts with aligned values, and small tables. What it says is the
//! story's business.

use std::fmt::Write as _;

/// Columns of the page.
const WIDTH: usize = 80;
/// Columns before the text under a heading.
const INDENT: usize = 2;
/// Column at which the values of facts begin, after the indent.
const LABEL: usize = 18;

/// A page in the making.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// The finished text.
    pub(super) fn finish(self) -> String {
        self.0
    }

    /// The first line: a title, and a word at the right edge.
    pub(super) fn title(&mut self, title: &str, word: &str) {
        let gap = WIDTH.saturating_sub(title.chars().count() + word.chars().count()).max(2);
        self.push(&format!("{title}{}{word}", " ".repeat(gap)));
    }

    /// A heading, with an empty line above it.
    pub(super) fn heading(&mut self, text: &str) {
        self.push("");
        self.push(&text.to_uppercase());
    }

    /// A wrapped paragraph.
    pub(super) fn say(&mut self, text: &str) {
        for line in wrap(text, WIDTH - INDENT) {
            self.push(&format!("{:INDENT$}{line}", ""));
        }
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.push("");
    }

    /// A label and its value, which is wrapped in its own column.
    pub(super) fn fact(&mut self, label: &str, value: &str) {
        for (index, line) in wrap(value, WIDTH - INDENT - LABEL).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.push(&format!("{:INDENT$}{label:LABEL$}{line}", ""));
        }
    }

    /// Rows under heads; every column is as wide as its widest cell, the last one takes what is left and is wrapped there.
    pub(super) fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) {
        let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        let widest =
            |column: usize| rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..heads.len().saturating_sub(1)).map(widest).collect();
        let before: usize = INDENT + widths.iter().map(|width| width + 2).sum::<usize>();
        for row in std::iter::once(&heads).chain(rows) {
            let mut line = " ".repeat(INDENT);
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            for rest in wrap(row.last().map_or("", String::as_str), WIDTH.saturating_sub(before).max(10)) {
                self.push(format!("{line}{rest}").trim_end());
                line = " ".repeat(before);
            }
        }
    }

    fn push(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }
}

/// Breaks a text at spaces into lines of at most `width` characters; a longer word stands alone.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        // There is always a last line.
        if let Some(line) = lines.last_mut() {
            line.push_str(if used > 0 { " " } else { "" });
            line.push_str(word);
        }
        used += length + usize::from(used > 0);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_the_page() {
        let mut page = Page::default();
        page.title("web", "running");
        page.heading("Files");
        page.say(&"word ".repeat(60));
        page.fact("capabilities", &"CAP_CHOWN ".repeat(20));
        page.table(
            &["path", "what"],
            &[vec!["/a".to_owned(), "xx ".repeat(60)], vec!["/bb".to_owned(), "y".to_owned()]],
        );
        let text = page.finish();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
        assert!(text.contains("\n\nFILES\n  word word"), "{text}");
        assert!(text.contains("\n  capabilities      CAP_CHOWN CAP_CHOWN"), "{text}");
    }

    #[test]
    fn long_words_stay_whole() {
        assert_eq!(wrap("aa bbbbbb c", 4), ["aa", "bbbbbb", "c"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
