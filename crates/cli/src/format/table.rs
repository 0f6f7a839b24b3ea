//! Aligns columns as Go's `text/tabwriter` does, because that is what Docker's tables look like and what scripts cut
//! them by: a cell ends with a tab, a column is as wide as its widest cell plus the padding, and the text after a
//! line's last tab is not padded.

/// Spaces between columns.
const PADDING: usize = 3;

/// Docker's tables: no column is narrower than 10 characters.
pub(crate) fn tabulate(text: &str) -> String {
    align(text, 10)
}

/// The tables of `top`: no column is narrower than 20 characters.
pub(crate) fn tabulate_wide(text: &str) -> String {
    align(text, 20)
}

fn align(text: &str, narrowest: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut writer = Writer { lines, narrowest, widths: Vec::new(), out: String::with_capacity(text.len() * 2) };
    writer.block(0, writer.lines.len());
    // The text after the last newline is a line of its own, without one.
    writer.out.pop();
    writer.out
}

struct Writer<'a> {
    lines: Vec<Vec<&'a str>>,
    narrowest: usize,
    /// Widths of the columns left of the block at work.
    widths: Vec<usize>,
    out: String,
}

impl Writer<'_> {
    /// Writes the lines `from..to`, of which the columns in `widths` are known. Adjacent lines that have one more
    /// column form a block of their own, whose width is the widest cell's.
    fn block(&mut self, mut from: usize, to: usize) {
        let column = self.widths.len();
        let mut this = from;
        while this < to {
            if column + 1 >= self.lines[this].len() {
                this += 1;
                continue;
            }
            self.write(from, this);
            from = this;
            let mut width = self.narrowest;
            while this < to && column + 1 < self.lines[this].len() {
                width = width.max(self.lines[this][column].chars().count() + PADDING);
                this += 1;
            }
            self.widths.push(width);
            self.block(from, this);
            self.widths.pop();
            from = this;
        }
        self.write(from, to);
    }

    fn write(&mut self, from: usize, to: usize) {
        for line in &self.lines[from..to] {
            for (column, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(column) {
                    self.out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_as_docker_prints_them() {
        let text = "CONTAINER ID\tIMAGE\tNAMES\n7efc028407e2\tbb:1\tc3\n";
        assert_eq!(tabulate(text), "CONTAINER ID   IMAGE     NAMES\n7efc028407e2   bb:1      c3\n");
        let text = "VOLUME NAME\ta\tLABELS\nv1\t\t\nv2\tb\ta=b\n";
        assert_eq!(
            tabulate(text),
            "VOLUME NAME   a         LABELS\nv1                      \nv2            b         a=b\n"
        );
    }

    #[test]
    fn top_has_wide_columns() {
        assert_eq!(
            tabulate_wide("PID\tCOMMAND\n21193\tsleep\n"),
            "PID                 COMMAND\n21193               sleep\n"
        );
    }

    #[test]
    fn blocks_align_on_their_own() {
        assert_eq!(tabulate("aaaaaaaaaa\tb\nplain\nc\td\n"), "aaaaaaaaaa   b\nplain\nc         d\n");
        assert_eq!(tabulate("no columns"), "no columns");
        assert_eq!(tabulate(""), "");
    }

    #[test]
    fn width_counts_characters() {
        assert_eq!(tabulate("ééééééééé\tx\nb\ty\n"), "ééééééééé   x\nb           y\n");
    }
}
