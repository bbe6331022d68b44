use std::path::Path;

/// Rust's debug form is for programmers: no format string of the program has it.
#[test]
fn no_command_prints_a_debug_form() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.components().any(|part| part.as_os_str() == "tests") {
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let line = text
                .lines()
                .find(|line| line.contains(":?}") || line.contains(":#?}"));
            assert_eq!(line, None, "{}", path.display());
        }
    }
    assert!(files > 15, "{files}");
}
