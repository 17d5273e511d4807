//! Pure: a table for people, as commands print it.

/// Lines of `rows`, the first of which is the head: two blanks between columns, each as
/// wide as its widest cell.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_with_it() {
        let rows = [["NAME", "ROLE"], ["é", "client"], ["long-name", ""]];
        let rows = rows.map(|row| row.map(str::to_owned));
        let text = "NAME       ROLE\né          client\nlong-name\n";
        assert_eq!(table(&rows), text);
    }
}
