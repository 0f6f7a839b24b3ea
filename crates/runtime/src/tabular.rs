//! Tables as Go's tabwriter lays them out for runc: columns of at least 12 characters, three blanks apart.

const MINIMUM: usize = 12;
const PADDING: usize = 3;

/// One line for each row; cells beyond the last column are not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| (widest(column).unwrap_or(0) + PADDING).max(MINIMUM)).collect();
    let mut text = String::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            match index + 1 == row.len() {
                true => text.push_str(cell),
                false => text.push_str(&format!("{cell:<width$}", width = widths[index])),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["ID".to_owned(), "PID".to_owned()], vec!["a-rather-long-id".to_owned(), "1".to_owned()]];
        assert_eq!(super::table(&rows), "ID                 PID\na-rather-long-id   1\n");
    }
}
