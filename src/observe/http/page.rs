//! The dashboard: files that are part of the program. It shows what the routes beside it tell, and needs nothing else.

/// A file of the dashboard.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Below `/dashboard/`; empty: it is `/`.
    name: &'static str,
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

const JS: &str = "text/javascript; charset=utf-8";

static FILES: [File; 9] = [
    File { name: "", content_type: "text/html; charset=utf-8", text: include_str!("dashboard/index.html") },
    File { name: "style.css", content_type: "text/css; charset=utf-8", text: include_str!("dashboard/style.css") },
    File { name: "icon.svg", content_type: "image/svg+xml", text: include_str!("dashboard/icon.svg") },
    File { name: "main.js", content_type: JS, text: include_str!("dashboard/main.js") },
    File { name: "overview.js", content_type: JS, text: include_str!("dashboard/overview.js") },
    File { name: "flow.js", content_type: JS, text: include_str!("dashboard/flow.js") },
    File { name: "plot.js", content_type: JS, text: include_str!("dashboard/plot.js") },
    File { name: "figures.js", content_type: JS, text: include_str!("dashboard/figures.js") },
    File { name: "dom.js", content_type: JS, text: include_str!("dashboard/dom.js") },
];

/// The file of a name; `None`: there is none.
pub(super) fn file(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}
