//! The command `page`: it puts reports into `docs/benchmarks.json`, and the figures of that file
//! into the pages of `docs/`.
//!
//! Prose is written in the pages themselves. What stands between `<!-- figures: NAME -->` and
//! `<!-- end of figures -->` is made from the stored reports by [`figures`] and [`scale`]; a test
//! compares the two, so that no figure is written by hand.

mod figures;
mod peers;
mod scale;
mod stored;
#[cfg(test)]
mod tests;
mod text;

use std::fs;
use std::path::Path;

pub use self::stored::Stored;
use crate::error::BenchError;
use crate::options::PageOptions;

/// The stored reports.
pub const STORED: &str = "benchmarks.json";
/// The pages that show them.
pub const PAGES: [&str; 2] = ["benchmarks.md", "scale.md"];
const BEGIN: &str = "<!-- figures: ";
const BEGIN_ENDS: &str = " -->\n";
const END: &str = "<!-- end of figures -->";

pub fn run(options: &PageOptions) -> Result<(), BenchError> {
    let path = options.docs.join(STORED);
    let mut stored = Stored::read(&path)?;
    if let Some(folder) = &options.from {
        stored.take_from(folder)?;
        stored.write(&path)?;
    }
    for page in PAGES {
        let path = options.docs.join(page);
        let text = read(&path)?;
        let made = fill(&text, &stored)?;
        if options.check && made != text {
            return Err(BenchError::Page(path));
        }
        if made != text {
            fs::write(&path, made).map_err(BenchError::io("writing", &path))?;
            println!("written: {}", path.display());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, BenchError> {
    fs::read_to_string(path).map_err(BenchError::io("reading", path))
}

/// The page with the figures of the stored reports.
///
/// # Errors
/// A part has no end or an unknown name, or a report lacks a figure.
pub fn fill(page: &str, stored: &Stored) -> Result<String, BenchError> {
    let unexpected = |detail: &str| BenchError::Unexpected {
        what: "the parts of a page",
        detail: detail.to_owned(),
    };
    let (mut made, mut rest) = (String::new(), page);
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after
            .split_once(BEGIN_ENDS)
            .ok_or_else(|| unexpected("a name is not at the end of its line"))?;
        let (_, after) = after
            .split_once(END)
            .ok_or_else(|| unexpected("a part has no end"))?;
        let figures = match name.strip_prefix("scale ") {
            Some(name) => scale::part(name, stored)?,
            None => figures::part(name, stored)?,
        };
        made += &format!("{before}{BEGIN}{name}{BEGIN_ENDS}{figures}{END}");
        rest = after;
    }
    Ok(made + rest)
}
