//! The page: one file without outside requests, joined from its parts. `page/model.js` says what the reports mean, and one
//! file draws each view.

/// The whole page.
pub(super) const PAGE: &str = concat!(
    include_str!("page/head.html"),
    include_str!("page/style.css"),
    include_str!("page/body.html"),
    include_str!("page/base.js"),
    include_str!("page/model.js"),
    include_str!("page/chart.js"),
    include_str!("page/overview.js"),
    include_str!("page/cache.js"),
    include_str!("page/key.js"),
    include_str!("page/events.js"),
    include_str!("page/main.js"),
    include_str!("page/tail.html"),
);
