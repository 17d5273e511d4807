//! docs/reasons.md.

use hg_proto::reasons::MEANINGS;

use super::settings::cell;

/// Where the page lies.
pub const PAGE: &str = "docs/reasons.md";

/// The page, from the table of reasons.
pub fn page() -> String {
    let mut page = String::from(
        "# Reasons\n\n\
         Why a compile went where it went, or why the cache kept nothing of it. These codes\n\
         are stable: they stand in the event log, in the summary of `hgbuild make`, in\n\
         `hgbuild -v`, on the dashboard and in metrics, often with words after a colon.\n\
         `hgbuild explain FILE` says the line of this table that a source's last compile came\n\
         to. [What travels](what-travels.md) tells the whole story.\n\n\
         | code | what it means | what helps |\n| --- | --- | --- |\n",
    );
    for row in MEANINGS {
        // Two underscores would be bold.
        let [meaning, advice] =
            [row.meaning, row.advice].map(|it| cell(it).replace("__", "\\_\\_"));
        page.push_str(&format!("| `{}` | {meaning} | {advice} |\n", row.code));
    }
    page
}
