//! The files that the rules look at.

use std::fs;
use std::path::{Path, PathBuf};

use crate::scan;

/// Folders that are made by tools and not kept in the repository.
const SKIPPED: [&str; 7] = [
    ".git",
    "target",
    "node_modules",
    "dist",
    "devnet-data",
    "__pycache__",
    "proptest-regressions",
];

/// Extensions of the files that the rules read: sources, scripts, documents, configuration.
const READ: [&str; 12] = [
    "rs", "toml", "md", "sh", "py", "ts", "svelte", "yml", "yaml", "js", "html", "css",
];

/// Scripts without an extension.
const READ_BY_NAME: [&str; 3] = ["Makefile", "setup", "run"];

/// A text file of the repository.
pub struct File {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// The content.
    pub text: String,
    /// Rust only: the text with comments, strings and characters blanked, line by line the same.
    pub code: String,
}

impl File {
    /// A file as the rules see it.
    pub fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") {
            scan::blank(text)
        } else {
            String::new()
        };
        File {
            path: path.into(),
            text: text.into(),
            code,
        }
    }

    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is compiled for tests only: `tests.rs`, a file in a folder `tests`, or a name
    /// that ends in `_tests.rs`.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.split('/').any(|folder| folder == "tests")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
    }

    /// `path:line`, for a message; lines count from 0 here and from 1 there.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{}", self.path, line + 1)
    }
}

/// All files of the repository, sorted by path.
pub struct Tree {
    /// The folder that the paths start from.
    pub root: PathBuf,
    /// Sorted by path.
    pub files: Vec<File>,
}

impl Tree {
    /// The repository that this test belongs to.
    pub fn of_this_repository() -> Self {
        let root = root();
        let mut files = Vec::new();
        collect(&root, "", &mut files);
        files.sort_by(|left: &File, right: &File| left.path.cmp(&right.path));
        assert!(
            files.len() > 50,
            "only {} files found in {}",
            files.len(),
            root.display()
        );
        Tree { root, files }
    }

    /// Files made up for a test of a rule.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| File::new(path, text))
            .collect();
        Tree {
            root: root(),
            files,
        }
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The Rust files that are not compiled for tests only.
    pub fn rust_code(&self) -> impl Iterator<Item = &File> {
        self.rust().filter(|file| !file.is_test())
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        let name = entry
            .file_name()
            .into_string()
            .expect("file names are UTF-8");
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files);
        } else if kind.is_file() && is_read(&name) {
            let text = fs::read_to_string(entry.path());
            files.push(File::new(
                &path,
                &text.unwrap_or_else(|error| panic!("{path}: {error}")),
            ));
        }
    }
}

fn is_read(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    READ.contains(&extension) || READ_BY_NAME.contains(&name)
}
