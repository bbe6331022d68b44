//! `devnet up`, end to end with a real image: validators, gateways and Things as processes, in
//! cities of every size.

use std::path::Path;
use std::process::{Command, Output};

use lamplighter_tests::{FIRMWARE_IMAGES, lamplighter};
use lamplighter_types::Hash;
use serde_json::Value;

/// The attacks that must be refused, as the report names them.
const ATTACKS: [&str; 116] = [
    "the same transaction sent again",
    "a sequence number used again",
    "an expired transaction",
    "a transaction signed for another chain",
    "a transaction with one byte changed",
    "a transaction with trailing bytes",
    "a signed payload with trailing bytes",
    "a transaction over the size limit",
    "a configuration by a user without the role",
    "an envelope with an unknown field",
    "an envelope with a doubled field",
    "a signed payload with an unknown field",
    "a signed payload with a doubled field",
    "bytes that are no JSON",
    "bytes that are no transaction",
    "JSON nested 100,000 deep",
    "a header with too few signatures",
    "a header with a doubled signature",
    "a header with a foreign signature",
    "a header with another time",
    "a proof with one bit of its record changed",
    "a release signed by an unregistered key",
    "a manifest that was not signed",
    "a release signed by a revoked key",
    "a release approved by its author",
    "a second approval by the same person",
    "a rollout of a release that one person approved",
    "a release with a lower security counter",
    "a release for another hardware class",
    "an event with a used sequence number",
    "an event signed by another key",
    "an event for a device of another gateway",
    "an event from an unregistered gateway",
    "a transaction in another account's name",
    "a gateway that connects without a token",
    "a gateway that connects with a made-up token",
    "a subscription to another gateway's work",
    "a publication on another gateway's topic",
    "one flipped bit at the artifact store",
    "one flipped bit at the gateway",
    "one flipped bit at the Thing",
    "orders without a proof",
    "a configuration of the records of two blocks",
    "a release that the ledger gives to others",
    "the order of another device",
    "an older configuration",
    "an order that is repeated after a newer one",
    "an order with changed documents",
    "an order of a stopped rollout",
    "a stolen Thing that counts to 2^53-1",
    "a stolen Thing whose security counter is 2^64-1",
    "a stolen Thing that reports for a lamp",
    "a Thing's key rotated by its gateway",
    "a Thing's key rotated by a stranger",
    "a device's key entered without having it",
    "the counter of a keyless device set to 2^64-1",
    "the counter of a keyless device set to 2^53-1",
    "the event number of a keyless device set to 2^53-1",
    "numbers of a Thing used up by its gateway",
    "4,000 permanent alarms of one device",
    "64 uploads of nothing",
    "64 releases of nothing",
    "a vendor that recalls another's release",
    "a district's operator that configures the city",
    "an operator that makes itself a lamp's gateway",
    "an operator that recalls a release",
    "a plan approved by its author",
    "a plan started without approvals",
    "a device's floor lowered by one operator",
    "an approval that died with its key",
    "an approval that is too new",
    "an approval of another manifest",
    "an approval withdrawn by another approver",
    "an account recovered by the security officer",
    "a security officer that makes itself administrator",
    "a release approved by the security officer",
    "the key of one of two administrators revoked",
    "the key of one of two approvers revoked",
    "a puppet made administrator by one key",
    "a puppet made approver by one key",
    "an administrator that makes itself operator",
    "a thief's proposal approved by its puppet",
    "a thief's proposal approved by its author",
    "a thief's proposal approved by its second key",
    "the policies set by one administrator",
    "an account recovered by one administrator",
    "a validator removed by one administrator",
    "the other administrator disabled by one",
    "one of two approvers disabled by one",
    "a user's key entered without having it",
    "a validator's key entered without having it",
    "two administrators whose third acts at once",
    "a node that is not on the allow-list",
    "a validator's id with another key",
    "a data directory of another chain",
    "an observer that leads without votes",
    "an observer that makes itself the only voter",
    "an observer that replaces acknowledged entries",
    "an observer that turns the commit back",
    "an observer that answers with the highest term",
    "an observer that tells of a height of 2^64-1",
    "an observer that frames others by their signatures",
    "an observer that offers an image of half a TiB",
    "an observer that shows two logs",
    "an observer that stands for election without end",
    "a validator that leads without votes",
    "a validator that makes itself the only voter",
    "a validator that replaces acknowledged entries",
    "a validator that turns the commit back",
    "a validator that answers with the highest term",
    "a validator that tells of a height of 2^64-1",
    "a validator that frames others by their signatures",
    "a validator that offers an image of half a TiB",
    "a validator that shows two logs",
    "a validator that stands for election without end",
    "one transaction more than the pool holds",
];

fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    let steps = report["steps"].as_array().unwrap();
    let found = steps.iter().find(|step| step["step"] == name);
    let found = found.unwrap_or_else(|| panic!("no step {name}: {report:#}"));
    assert_eq!(found["passed"], true, "{found:#}");
    &found["figure"]
}

fn printed(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// `devnet up` with one set of sizes and options.
fn up(folder: &Path, sizes: [usize; 3], options: &[&str]) -> Output {
    let names = ["--validators", "--gateways", "--things"];
    let sizes = names.iter().zip(sizes);
    let sizes = sizes.flat_map(|(name, size)| [(*name).to_owned(), size.to_string()]);
    Command::new(lamplighter())
        .args(["devnet", "up", "--once", "--dir"])
        .arg(folder.join("city"))
        .arg("--report")
        .arg(folder.join("report.json"))
        .args(sizes)
        .args(options)
        .output()
        .unwrap()
}

/// The report of a devnet in which everything passed.
fn report(sizes: [usize; 3], options: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = up(folder.path(), sizes, options);
    assert!(output.status.success(), "{}", printed(&output));
    let report = std::fs::read(folder.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["passed"], true);
    assert_eq!(
        step(&report, "rollout")["deployments"]["confirmed"],
        sizes[2]
    );
    report
}

/// Every attack by its name, and how it ended.
fn attacks(report: &Value) -> Vec<(&str, &str)> {
    let attacks = report["attacks"].as_array().unwrap().iter();
    let attacks = attacks.map(|attack| (&attack["attack"], &attack["verdict"]));
    attacks
        .map(|(attack, verdict)| (attack.as_str().unwrap(), verdict.as_str().unwrap()))
        .collect()
}

#[test]
fn a_release_reaches_every_thing_and_every_attack_is_refused() {
    let image =
        std::fs::read(FIRMWARE_IMAGES[1]).expect("scripts/setup --test installs the images");
    let options = ["--attacks", "--firmware", FIRMWARE_IMAGES[1]];
    let report = report([4, 2, 20], &options);
    let digest = Hash::of(&image).to_string();
    let things = step(&report, "images")["things"].as_object().unwrap();
    assert_eq!(things.len(), 20);
    for (device, held) in things {
        assert_eq!(held["digest"], digest, "{device}");
        assert_eq!(held["bytes"], image.len(), "{device}");
    }
    assert!(step(&report, "head")["signers"].as_array().unwrap().len() >= 3);
    let counts = &step(&report, "events")["by_kind"];
    assert_eq!(counts["alarm_raised"], 3);
    assert_eq!(counts["device_key_replaced"], 1);
    assert_eq!(counts["config_reported"], 20);
    assert_eq!(attacks(&report), ATTACKS.map(|attack| (attack, "refused")));
}

/// With one validator the pool can't be filled: without the node no other node answers, and with it
/// every transaction is ordered. Nor can one of fewer than four lie and be survived.
#[test]
fn the_smallest_city_is_attacked_too() {
    let report = report([1, 1, 1], &["--attacks"]);
    let possible = |attack: &str| {
        let pool = attack == "one transaction more than the pool holds";
        let liar = attack.starts_with("a validator that ");
        !(pool || liar)
    };
    let wanted = ATTACKS.map(|attack| match possible(attack) {
        true => (attack, "refused"),
        false => (attack, "not_applicable"),
    });
    assert_eq!(attacks(&report), wanted);
}

#[test]
fn the_largest_city_comes_up() {
    let report = report([7, 5, 200], &[]);
    assert!(attacks(&report).is_empty());
    let things = step(&report, "images")["things"].as_object().unwrap();
    assert_eq!(things.len(), 200);
}

#[test]
fn sizes_that_no_devnet_has_are_refused_with_the_range() {
    let folder = tempfile::tempdir().unwrap();
    for (sizes, range) in [
        ([0, 1, 1], "0 is not in 1..=7"),
        ([8, 1, 1], "8 is not in 1..=7"),
        ([1, 0, 1], "0 is not in 1..=5"),
        ([1, 6, 1], "6 is not in 1..=5"),
        ([1, 1, 0], "0 is not in 1..=200"),
        ([1, 1, 201], "201 is not in 1..=200"),
    ] {
        let output = up(folder.path(), sizes, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", printed(&output));
        assert!(printed(&output).contains(range), "{}", printed(&output));
    }
    assert!(!folder.path().join("city").exists());
}

#[test]
fn a_foreign_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter.txt");
    std::fs::write(&letter, "mine").unwrap();
    let mut command = Command::new(lamplighter());
    let output = command
        .args(["devnet", "up", "--once", "--dir"])
        .arg(folder.path())
        .output();
    let output = output.unwrap();
    assert!(!output.status.success());
    assert!(
        printed(&output).contains("no devnet made"),
        "{}",
        printed(&output)
    );
    assert_eq!(std::fs::read(&letter).unwrap(), b"mine");
}
