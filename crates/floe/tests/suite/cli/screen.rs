//! What a person sees of a terminal's output: the lines as they stand in the end, those that were scrolled
//! away included.

/// A terminal of so many rows and columns, as far as floe's output needs it. Panics at all else.
pub(crate) fn seen(output: &str, (rows, columns): (u16, u16)) -> Vec<String> {
    let (rows, columns) = (usize::from(rows), usize::from(columns));
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0_usize);
    let mut chars = output.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                assert_eq!(chars.next(), Some('['), "an unknown sequence");
                let (mut number, mut verb) = (String::new(), 'm');
                for c in chars.by_ref() {
                    verb = c;
                    if !c.is_ascii_digit() {
                        break;
                    }
                    number.push(c);
                }
                let count = number.parse().unwrap_or(1);
                match verb {
                    'A' => {
                        row = row
                            .saturating_sub(count)
                            .max(lines.len().saturating_sub(rows))
                    }
                    'B' => row = (row + count).min(lines.len() - 1),
                    'K' if number == "2" => lines[row].clear(),
                    other => panic!("an unknown sequence: {number}{other}"),
                }
            }
            '\r' => column = 0,
            '\n' => row += 1,
            c => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                lines.resize(lines.len().max(row + 1), Vec::new());
                let length = lines[row].len().max(column + 1);
                lines[row].resize(length, ' ');
                lines[row][column] = c;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    let lines = lines.into_iter().map(String::from_iter);
    lines.map(|line| line.trim_end().to_owned()).collect()
}
