//! The tables of docs/settings.md.

use hgbuild::settings::SETTINGS;

use super::Manual;

/// The page that they are in.
pub const PAGE: &str = "docs/settings.md";

const END: &str = "<!-- end -->";

/// `page` with its tables as the programs have them: between `<!-- settings of NAME -->`
/// and `<!-- end -->`.
///
/// # Errors
/// There is no place for one.
pub fn with_tables(page: &str, manuals: &[Manual]) -> Result<String, String> {
    let mut page = page.to_owned();
    for manual in manuals {
        let name = manual.program.name;
        let begin = format!("<!-- settings of {name} -->\n");
        let missing = || format!("{PAGE} has no {begin}");
        let from = page.find(&begin).ok_or_else(missing)? + begin.len();
        let length = page[from..].find(END).ok_or_else(missing)?;
        page.replace_range(from..from + length, &table(manual));
    }
    Ok(page)
}

fn table(manual: &Manual) -> String {
    if manual.program.name != "hgbuild" {
        let rows = manual.program.environment.iter();
        let rows =
            rows.map(|(variable, meaning)| format!("| `{variable}` | {} |\n", cell(meaning)));
        return format!(
            "| environment | meaning |\n| --- | --- |\n{}",
            rows.collect::<String>()
        );
    }
    let mut table = String::from("| environment | config.toml | meaning |\n| --- | --- | --- |\n");
    for setting in SETTINGS {
        let line = match setting.line {
            "" => String::new(),
            line => format!("`{line}`"),
        };
        let more = match setting.more {
            "" => String::new(),
            more => format!("; {more}"),
        };
        let meaning = format!("{}{more}", cell(setting.meaning));
        table.push_str(&format!(
            "| `{}` | {line} | {meaning} |\n",
            setting.variable
        ));
    }
    table
}

/// Words between quotes are code here; an apostrophe is one.
pub fn cell(meaning: &str) -> String {
    let mut cell = String::new();
    let mut is_open = false;
    for (at, c) in meaning.char_indices() {
        let is_in_word = meaning[..at].ends_with(char::is_alphanumeric);
        match c {
            '\'' if is_open || !is_in_word => {
                is_open = !is_open;
                cell.push('`');
            }
            '|' => cell.push_str("\\|"),
            c => cell.push(c),
        }
    }
    cell
}
