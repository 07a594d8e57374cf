//! The style and the script, each at an address that changes when they do: a browser keeps them.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header;
use axum::routing::get;

use crate::model::digest::Digest;

/// A file that every page refers to.
pub struct Asset {
    pub address: String,
    text: &'static str,
    kind: &'static str,
}

pub static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("css", include_str!("templates/site.css"), "text/css; charset=utf-8"));
pub static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("js", include_str!("templates/site.js"), "text/javascript; charset=utf-8"));

/// How long a browser keeps it: a year, the most that it takes.
const KEPT: &str = "public, max-age=31536000, immutable";

impl Asset {
    fn new(ending: &str, text: &'static str, kind: &'static str) -> Asset {
        let digest = Digest::of_bytes(text.as_bytes()).to_string();
        Asset { address: format!("/assets/{:.16}.{ending}", digest), text, kind }
    }
}

/// Returns the routes of the files.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    [&STYLE, &SCRIPT].into_iter().fold(Router::new(), |router, asset| {
        let answer = async || {
            let asset: &Asset = asset;
            ([(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, KEPT)], asset.text)
        };
        router.route(&asset.address, get(answer))
    })
}
