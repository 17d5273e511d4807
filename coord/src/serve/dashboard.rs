//! The dashboard's own files, in the program: a page, its style and its scripts. They say
//! nothing of the grid; what they show comes from the REST API and the live socket.

/// A file of the dashboard.
pub struct File {
    /// Its media type.
    pub kind: &'static str,
    /// What is in it.
    pub content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The file at `path`; `None`: there is none.
pub fn file(path: &str) -> Option<File> {
    let (kind, content) = match path {
        "/" => (HTML, include_str!("dashboard/index.html")),
        "/dashboard/style.css" => (STYLE, include_str!("dashboard/style.css")),
        "/dashboard/theme.js" => (SCRIPT, include_str!("dashboard/theme.js")),
        "/dashboard/main.js" => (SCRIPT, include_str!("dashboard/main.js")),
        "/dashboard/connection.js" => (SCRIPT, include_str!("dashboard/connection.js")),
        "/dashboard/elements.js" => (SCRIPT, include_str!("dashboard/elements.js")),
        "/dashboard/charts.js" => (SCRIPT, include_str!("dashboard/charts.js")),
        "/dashboard/lanes.js" => (SCRIPT, include_str!("dashboard/lanes.js")),
        "/dashboard/track.js" => (SCRIPT, include_str!("dashboard/track.js")),
        "/dashboard/tables.js" => (SCRIPT, include_str!("dashboard/tables.js")),
        "/dashboard/icon.svg" => ("image/svg+xml", include_str!("dashboard/icon.svg")),
        _ => return None,
    };
    Some(File { kind, content })
}
