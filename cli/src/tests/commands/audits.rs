//! Audits of the whole ledger, and files of evidence.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lamplighter_system::unix_ms;
use serde_json::Value;

use super::Day;

/// Everything in a folder whose name ends so, in order.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let all = entries.map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all
        .filter(|path| path.to_str().unwrap().ends_with(suffix))
        .collect();
    all.sort();
    all
}

impl Day {
    pub(super) async fn audits(&mut self) {
        Box::pin(self.audit_of_the_ledger()).await;
        Box::pin(self.evidence()).await;
    }

    async fn fails(&self, command: &str, code: u8, words: &str) {
        let failure = self.city.run("auditor", command).await.unwrap_err();
        assert!(failure.to_string().contains(words), "{failure}");
        assert_eq!(failure.exit_code(), ExitCode::from(code), "{failure}");
    }

    async fn audit_of_the_ledger(&mut self) {
        self.reads("auditor", "audit ledger --folder {audit}").await;
        // It goes on where it was, and blocks that it has not kept are in no archive.
        self.reads("auditor", "audit ledger --folder {audit} --json")
            .await;
        self.reads("auditor", "audit ledger --folder {audit} --skip-signatures")
            .await;
        let kept = "audit ledger --folder {audit} --keep {backup}";
        self.fails(kept, 1, "the archive has those up to 0").await;
        let kept = "audit ledger --folder {kept} --keep {backup}";
        self.reads("auditor", kept).await;
        self.reads("auditor", kept).await;
        let refused = self
            .city
            .run("operator", "audit ledger --folder {other}")
            .await;
        assert_eq!(refused.unwrap_err().exit_code(), ExitCode::from(3));

        let offline = "audit ledger --folder {offline} --archive {backup}";
        self.reads("auditor", offline).await;
        let backup = self.city.path("backup");
        let blocks = files(&backup, ".blocks");
        let (first, bytes) = (&blocks[0], fs::read(&blocks[0]).unwrap());
        let offline = "audit ledger --folder {offline-2} --archive {backup}";
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(first, &changed).unwrap();
        self.fails(offline, 1, "is damaged").await;
        // With the digest of the changed bytes as well.
        let digest = lamplighter_types::Hash::of(&changed);
        let name = format!("{:020}-{digest}.blocks", 1);
        fs::rename(first, backup.join(&name)).unwrap();
        self.fails(offline, 5, "certificate").await;
        // What was compared before the difference stays, and the rest is compared now.
        fs::remove_file(backup.join(&name)).unwrap();
        let away = "audit ledger --folder {offline-3} --archive {backup}";
        self.fails(away, 5, "there is no block").await;
        fs::write(first, &bytes).unwrap();
        self.reads("auditor", offline).await;
        fs::remove_file(backup.join("archive.json")).unwrap();
        self.fails(offline, 1, "archive.json is missing").await;
    }

    async fn evidence(&mut self) {
        let now = unix_ms();
        for (name, of) in [
            ("lamp.html", "device lamp-2".to_owned()),
            ("release.html", "release lamp-2".to_owned()),
            ("rollout.html", "rollout first".to_owned()),
            ("account.html", "account bob".to_owned()),
            (
                "day.html",
                format!("period --from {} --until {now}", now - 3_600_000),
            ),
        ] {
            self.reads("auditor", &format!("evidence {of} --to {{{name}}}"))
                .await;
            self.reads("auditor", &format!("audit verify {{{name}}}"))
                .await;
            Box::pin(self.check_page(name)).await;
        }
        let again = "evidence device lamp-2 --to {lamp.html}";
        self.fails(again, 1, "exists already").await;
        self.reads("auditor", "evidence device lamp-2 --to {lamp.json}")
            .await;
        self.reads("auditor", "audit verify {lamp.json} --json")
            .await;
        self.verify_with_typescript("lamp.json");
        Box::pin(self.forged_evidence()).await;
        Box::pin(self.cut_evidence()).await;
        let outside = self
            .city
            .run("operator", "evidence device lamp-2 --to {o.html}")
            .await;
        assert_eq!(outside.unwrap_err().exit_code(), ExitCode::from(3));
    }

    /// A page shows what is proven: a changed letter is found.
    async fn check_page(&self, name: &str) {
        let page = fs::read_to_string(self.city.path(name)).unwrap();
        assert!(page.contains("transaction "), "{name} has transactions");
        let changed = page.replacen("What happened", "What happenes", 1);
        self.city.write("changed.html", changed);
        self.fails("audit verify {changed.html}", 1, "the page around it")
            .await;
    }

    async fn forged_evidence(&self) {
        let text = fs::read_to_string(self.city.path("lamp.json")).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 5] = [
            ("is not the one that is proven", |file| {
                file["items"][0]["record"]["model"] = "another".into();
            }),
            ("proves nothing", |file| {
                let head = &mut file["items"][1]["proof"]["head"]["header"];
                head["timestamp_ms"] = 1.into();
            }),
            ("unknown field", |file| file["remark"] = "guilty".into()),
            ("of the ledger", |file| {
                file["chain_id"] = "00".repeat(32).into()
            }),
            ("has no record", |file| {
                let proof = file["items"][0]["proof"].take();
                file["items"][0] = proof;
            }),
        ];
        for (words, change) in changes {
            let mut forged = file.clone();
            change(&mut forged);
            self.city.write("forged.json", forged.to_string());
            self.fails("audit verify {forged.json}", 1, words).await;
        }
    }

    /// A file that is cut says so, and the rest follows in others.
    async fn cut_evidence(&mut self) {
        let whole = fs::read_to_string(self.city.path("lamp.json")).unwrap();
        let whole: Value = serde_json::from_str(&whole).unwrap();
        let (mut items, mut after) = (Vec::new(), String::new());
        for number in 0.. {
            let part = format!("part-{number}.json");
            let command = format!("evidence device lamp-2 --to {{{part}}} --changes 2{after}");
            self.reads("auditor", &command).await;
            let text = fs::read_to_string(self.city.path(&part)).unwrap();
            let file: Value = serde_json::from_str(&text).unwrap();
            items.extend(file["items"].as_array().unwrap().clone());
            match file["next"].as_str() {
                Some(next) => after = format!(" --after {next}"),
                None => break,
            }
        }
        let names = |items: &[Value]| -> std::collections::BTreeSet<String> {
            items
                .iter()
                .map(|item| item["record"].to_string())
                .collect()
        };
        assert!(names(&items).is_superset(&names(whole["items"].as_array().unwrap())));
    }

    /// Every proof of a file holds for the verifier that shares no code with this program.
    fn verify_with_typescript(&self, name: &str) {
        let verifier = Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier");
        let out = self.city.path("verifier");
        let node = |arguments: &[&str]| {
            let output = Command::new("node")
                .args(arguments)
                .current_dir(&verifier)
                .output();
            let output = output.expect("node is installed by scripts/setup --test");
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        // Apart from the folder that another test builds anew.
        let built = self.city.path("verifier-built");
        fs::create_dir(&built).unwrap();
        fs::copy(verifier.join("package.json"), built.join("package.json")).unwrap();
        let packages = verifier.join("node_modules").canonicalize().unwrap();
        std::os::unix::fs::symlink(packages, built.join("node_modules")).unwrap();
        let built_text = built.to_str().unwrap();
        node(&[
            "node_modules/typescript/bin/tsc",
            "-p",
            ".",
            "--outDir",
            built_text,
        ]);
        fs::create_dir(&out).unwrap();
        let text = fs::read_to_string(self.city.path(name)).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let items = file["items"].as_array().unwrap();
        assert!(items.len() > 6, "{} items", items.len());
        let command = built.join("src/command.js");
        let genesis = self.city.path("genesis.json");
        for (number, item) in items.iter().enumerate() {
            let path = out.join(format!("{number}.json"));
            fs::write(&path, item.to_string()).unwrap();
            let printed = node(&[
                command.to_str().unwrap(),
                "--genesis",
                genesis.to_str().unwrap(),
                path.to_str().unwrap(),
            ]);
            assert!(printed.starts_with("proven: "), "{printed}");
        }
    }
}
