use super::*;

pub const KEY: &str = "00112233445566778899aabbccddeeff";
pub const OTHER_KEY: &str = "ffeeddccbbaa99887766554433221100";

/// A file of keys for these pairs of identity and key; the device is named as the identity.
pub fn keys_file(directory: &std::path::Path, keys: &[(&str, &str)]) -> std::path::PathBuf {
    let path = directory.join("things.toml");
    let entry = |(identity, key): &(&str, &str)| {
        format!("[[psk]]\nidentity = \"{identity}\"\nkey = \"{key}\"\ndevice = \"{identity}\"\n")
    };
    let text: String = keys.iter().map(entry).collect();
    write_private(&path, &text);
    path
}

pub fn write_private(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn open(text: &str) -> Result<CredentialStore, CredentialError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("things.toml");
    write_private(&path, text);
    CredentialStore::open(path)
}

fn entry(identity: &str, key: &str) -> String {
    format!("[[psk]]\nidentity = \"{identity}\"\nkey = \"{key}\"\ndevice = \"lamp-1\"\n")
}

#[test]
fn keys_are_found_by_identity_and_devices_may_have_several() {
    let two = [entry("urn:lamp:1", KEY), entry("urn:lamp:1-new", OTHER_KEY)].concat();
    let store = open(&two).unwrap();
    let found = store.find(b"urn:lamp:1-new").unwrap();
    assert_eq!(found.key(), hex::decode(OTHER_KEY).unwrap());
    assert_eq!(&*found.holder.device, "lamp-1");
    assert!(store.find(b"lamp-1").is_none());
    assert!(store.has_device("lamp-1") && !store.has_device("urn:lamp:1"));
    assert!(open("").is_ok());
}

#[test]
fn a_file_that_is_not_right_is_refused_and_its_keys_are_not_printed() {
    let short = &KEY[2..];
    for (text, expected) in [
        (entry("a", short), "16 to 64 bytes"),
        (entry("a", "zz"), "16 to 64 bytes"),
        (entry("", KEY), "1 to 128 bytes"),
        (entry(&"a".repeat(129), KEY), "1 to 128 bytes"),
        ([entry("a", KEY), entry("a", OTHER_KEY)].concat(), "twice"),
        (entry("a", KEY).replace("device", "devise"), "malformed"),
        (entry("a", KEY).replace("lamp-1", "Lamp 1"), "malformed"),
    ] {
        let error = open(&text).expect_err(&text);
        let words = format!("{error} {error:?}");
        assert!(words.contains(expected), "{words}");
        assert!(!words.contains(short), "{words}");
    }
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = keys_file(directory.path(), &[("lamp-1", KEY)]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = CredentialStore::open(path.clone());
    assert!(matches!(
        refused,
        Err(CredentialError::Exposed { mode: 0o640, .. })
    ));
    let missing = CredentialStore::open(directory.path().join("none"));
    assert!(matches!(missing, Err(CredentialError::Read { .. })));
}

#[test]
fn a_change_of_the_file_is_taken_up_and_a_damaged_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = keys_file(directory.path(), &[("lamp-1", KEY)]);
    let store = CredentialStore::open(path.clone()).unwrap();
    assert!(!store.refresh().unwrap());
    let before = store.generation();
    keys_file(directory.path(), &[("lamp-1", KEY), ("lamp-22", OTHER_KEY)]);
    assert!(store.refresh().unwrap());
    assert_ne!(store.generation(), before);
    assert!(store.has_device("lamp-22"));
    write_private(&path, "[[psk]]\nidentity");
    assert!(matches!(
        store.refresh(),
        Err(CredentialError::Malformed { .. })
    ));
    assert!(store.has_device("lamp-22"));
    assert!(!store.refresh().unwrap(), "the same fault is told once");
}

/// Where files are unpacked or deployed with one fixed time, a replaced key changes neither length
/// nor time.
#[test]
fn another_key_of_the_same_length_and_time_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    let deployed = |key| {
        let path = keys_file(directory.path(), &[("lamp-1", key)]);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(epoch).unwrap();
        path
    };
    let path = deployed(KEY);
    let store = CredentialStore::open(path.clone()).unwrap();
    // Put in its place, as `mv` does.
    let before = directory.path().join("before");
    std::fs::rename(&path, before).unwrap();
    deployed(OTHER_KEY);
    assert!(store.refresh().unwrap());
    let found = store.find(b"lamp-1").unwrap();
    assert_eq!(found.key(), hex::decode(OTHER_KEY).unwrap());
    assert!(!store.refresh().unwrap());
}

fn oscore(device: &str, secret: &str, thing_id: &str, more: &str) -> String {
    format!(
        "[[oscore]]\nsecret = \"{secret}\"\nthing_id = \"{thing_id}\"\ngateway_id = \"ff\"\n\
         device = \"{device}\"\n{more}\n"
    )
}

#[test]
fn entries_for_oscore_share_neither_secret_nor_id() {
    let store = open(&oscore(
        "lamp-1",
        KEY,
        "0a01",
        "salt = \"9e7c\"\ncontext = \"37cb\"",
    ));
    let found = store.unwrap().find_oscore(&[0x0A, 1]).unwrap();
    assert_eq!(&*found.holder.device, "lamp-1");
    assert_eq!(found.keys.salt, [0x9E, 0x7C]);
    assert_eq!(found.keys.id_context, Some(vec![0x37, 0xCB]));
    let two = |secret, thing_id| {
        let first = oscore("lamp-1", KEY, "01", "");
        [first, oscore("lamp-2", secret, thing_id, "")].concat()
    };
    assert!(open(&two(OTHER_KEY, "02")).is_ok());
    for (text, expected) in [
        (two(KEY, "02"), "secret"),
        (two(OTHER_KEY, "01"), "thing_id"),
        (
            oscore("lamp-1", KEY, "01", "") + &oscore("lamp-1", OTHER_KEY, "02", ""),
            "gateway_id",
        ),
        (oscore("lamp-1", KEY, "ff", ""), "the same for both"),
        (oscore("lamp-1", KEY, "0102030405060708", ""), "0 to 7"),
        (oscore("lamp-1", KEY, "0", ""), "0 to 7"),
        (oscore("lamp-1", &KEY[2..], "01", ""), "16 to 64"),
        (oscore("lamp-1", KEY, "01", "salt = \"g\""), "salt"),
        (
            oscore("lamp-1", KEY, "01", "purpose = \"all\""),
            "malformed",
        ),
    ] {
        let error = open(&text).expect_err(&text);
        let words = format!("{error} {error:?}");
        assert!(words.contains(expected), "{words}");
        assert!(!words.contains(&KEY[2..]), "{words}");
    }
}

#[test]
fn a_key_for_bootstraps_is_no_key_for_registrations_and_the_newest_is_handed_out() {
    let bootstrap = entry("bs", OTHER_KEY) + "purpose = \"bootstrap\"\n";
    let store = open(&bootstrap).unwrap();
    assert!(!store.has_device("lamp-1"));
    assert!(store.device_key("lamp-1", Protection::Dtls).is_none());
    let holder = store.find(b"bs").unwrap().holder;
    assert_eq!(holder.purpose, Purpose::Bootstrap);
    let all = [
        bootstrap,
        entry("old", OTHER_KEY),
        entry("new", KEY),
        oscore("lamp-1", KEY, "01", ""),
        oscore("lamp-1", OTHER_KEY, "02", "purpose = \"bootstrap\"").replace("ff\"", "fe\""),
    ];
    let store = open(&all.concat()).unwrap();
    let Some(DeviceKey::Psk { identity, key }) = store.device_key("lamp-1", Protection::Dtls)
    else {
        panic!("it has one for DTLS");
    };
    assert_eq!(
        (&identity[..], hex::encode(&*key)),
        (&b"new"[..], KEY.to_owned())
    );
    let Some(DeviceKey::Oscore(keys)) = store.device_key("lamp-1", Protection::Oscore) else {
        panic!("it has one for OSCORE");
    };
    assert_eq!(keys.thing_id, [1]);
    assert!(store.device_key("lamp-2", Protection::Dtls).is_none());
}
