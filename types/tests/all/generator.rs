//! Proof files from a seed, half of them changed: by a byte of the text, by a value of the JSON, or
//! below signatures of a quorum, so that every step of a verifier is reached.

use blake3::OutputReader;
use lamplighter_types::merkle::{ListTree, OtherLeaf, StateProof};
use lamplighter_types::proof::*;
use lamplighter_types::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::fixture::*;
use crate::samples::{self, Visit};

/// A file with the number of the set from which it is checked.
pub struct Case {
    pub file: Vec<u8>,
    pub trusted: usize,
}

/// Chooses by the bytes that a hash makes of the seed.
pub struct Draw(OutputReader);

impl Draw {
    pub fn new(seed: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(seed.as_bytes());
        Self(hasher.finalize_xof())
    }

    pub fn below(&mut self, count: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % count as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn hash(&mut self) -> Hash {
        let mut bytes = [0; 32];
        self.0.fill(&mut bytes);
        Hash(bytes)
    }
}

/// The encodings of points whose order divides 8, also those with y above the prime and of the
/// sign of zero (the test vectors of ZIP-215).
const SMALL_ORDER: [&str; 14] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// The order of the group, little-endian: an S that is refused, and is zero for the equation.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// Escapes in JSON texts; the second and the last stand for no character.
const ESCAPES: [&[u8]; 4] = [b"\\u0061", b"\\ud800", b"\\ud83d\\ude00", b"\\x"];

fn weak_keys() -> Vec<PublicKey> {
    let keys = SMALL_ORDER.iter().map(|key| key.parse::<PublicKey>());
    keys.map(Result::unwrap).collect()
}

/// Collects the encodings of samples by their type.
struct Encodings(Vec<(String, Vec<u8>)>);

impl Visit for Encodings {
    fn visit<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        kind: &str,
        value: &T,
        _json: &str,
    ) {
        self.0.push((kind.to_owned(), codec::encode(value)));
    }
}

/// A key and an encoded record of each table of the state.
fn state_records(encodings: &[(String, Vec<u8>)]) -> State {
    let id = |text: &str| text.parse::<Id>().unwrap();
    let (lamp, device) = (id("lamp-1"), b"lamp-1\0".as_slice());
    let number = 7u64.to_be_bytes();
    let key = secret(42).public().0;
    let of = |kind: &str| {
        let found = encodings.iter().find(|(name, _)| name == kind);
        found.unwrap_or_else(|| panic!("{kind}")).1.clone()
    };
    let spring = [b"spring\0".as_slice(), device].concat();
    let timer = codec::encode(&(7u64, id("spring"), lamp.clone()));
    let running = codec::encode(&(id("spring"), RolloutWork::Sweep));
    let rows: Vec<(u8, Vec<u8>, Vec<u8>)> = vec![
        (0x01, b"city\0".to_vec(), of("Organization")),
        (0x02, b"alice\0".to_vec(), of("Account")),
        (0x03, key.to_vec(), of("KeyRecord")),
        (0x04, key.to_vec(), of("ReplayWindow")),
        (0x05, b"alice\0".to_vec(), codec::encode(&id("alice"))),
        (0x06, b"alice\0".to_vec(), codec::encode(&id("alice"))),
        (0x07, b"alice\0".to_vec(), of("AllowanceUse")),
        (0x10, device.to_vec(), of("Device")),
        (0x11, device.to_vec(), of("DeviceState")),
        (0x12, [b"gw-1\0", device].concat(), codec::encode(&lamp)),
        (
            0x13,
            [b"north\0harbour\0\0", device].concat(),
            codec::encode(&lamp),
        ),
        (0x14, [b"city\0", device].concat(), codec::encode(&lamp)),
        (0x15, key.to_vec(), codec::encode(&lamp)),
        (
            0x16,
            b"free bytes\0\x01".to_vec(),
            codec::encode(&HexBytes(vec![1, 2])),
        ),
        (
            0x17,
            b"a\x01\x01b\x01\x02c\0".to_vec(),
            of("RegistrantLink"),
        ),
        (0x20, b"release-1\0".to_vec(), of("Release")),
        (0x21, [&key[..], &number].concat(), of("Artifact")),
        (
            0x22,
            [&key[..], b"release-1\0"].concat(),
            codec::encode(&id("release-1")),
        ),
        (
            0x23,
            b"city\0release-1\0".to_vec(),
            codec::encode(&id("release-1")),
        ),
        (0x30, b"spring\0".to_vec(), of("Rollout")),
        (0x31, spring.clone(), of("Deployment")),
        (
            0x32,
            [device, &number, b"spring\0"].concat(),
            codec::encode(&id("spring")),
        ),
        (0x33, [&number[..], &spring].concat(), timer),
        (0x34, b"spring\0".to_vec(), running),
        (
            0x35,
            b"city\0spring\0".to_vec(),
            codec::encode(&id("spring")),
        ),
        (0x40, vec![0], of("DesiredConfig")),
        (0x40, b"\x01LX 200\0".to_vec(), of("DesiredConfig")),
        (0x40, b"\x02north/harbour\0".to_vec(), of("DesiredConfig")),
        (0x40, [b"\x03", device].concat(), of("DesiredConfig")),
        (0x41, device.to_vec(), of("ReportedConfig")),
        (0x50, device.to_vec(), of("EventCursor")),
        (0x51, [device, &number].concat(), of("Alarm")),
        (0x52, device.to_vec(), of("DeviceAlarms")),
        (0x60, Vec::new(), of("ValidatorSet")),
        (0x61, number.to_vec(), of("Observer")),
        (0x62, Vec::new(), of("Policies")),
        (0x63, b"more\0".to_vec(), of("Proposal")),
        (0x64, Vec::new(), of("Protocol")),
        (0x65, number.to_vec(), codec::encode(&id("node-7"))),
        (
            0x66,
            [&number[..], b"more\0"].concat(),
            codec::encode(&id("more")),
        ),
    ];
    let rows = rows.into_iter();
    rows.map(|(table, rest, value)| ([vec![table], rest].concat(), value))
        .collect()
}

/// What blocks are made of, chains that they continue, and sets from which files are checked.
pub struct Generator {
    draw: Draw,
    chains: Vec<TestChain>,
    /// The last one has keys of small order.
    pub trusted: Vec<TrustedSet>,
    state: State,
    actions: Vec<Action>,
    notifications: Vec<Notification>,
}

impl Generator {
    pub fn new(seed: &str) -> Self {
        let mut encodings = Encodings(Vec::new());
        for file in samples::FILES {
            samples::each(file, &mut encodings);
        }
        let all = encodings.0;
        fn of<T: Serialize + DeserializeOwned>(all: &[(String, Vec<u8>)], kind: &str) -> Vec<T> {
            let found = all.iter().filter(|(name, _)| name == kind);
            found
                .map(|(_, bytes)| codec::decode(bytes).unwrap())
                .collect()
        }
        let facts: Vec<Fact> = of(&all, "Fact");
        let notifications = facts
            .into_iter()
            .enumerate()
            .map(|(at, fact)| Notification {
                place: (at % 2 == 0).then(|| Place {
                    device: "lamp-1".parse().unwrap(),
                    district: Scope::new("north/harbour").unwrap(),
                    gateway: (at % 4 == 0).then(|| "gw-1".parse().unwrap()),
                }),
                fact,
            });
        let changes = [(4, vec![2, 3, 4, 5]), (6, vec![3, 4, 5, 6, 7])];
        let chains = vec![
            TestChain::new(12, None),
            TestChain::new(12, Some(3)),
            TestChain::with_changes(12, &changes),
        ];
        let genesis = TrustedSet::from(&chains[0].genesis);
        let set = |height, nodes: &[u8]| TrustedSet {
            height,
            set: validators(nodes),
            ..genesis.clone()
        };
        let mut weak = validators(&[1, 2, 3, 4, 5, 6, 7]);
        for (at, key) in weak_keys().into_iter().enumerate() {
            let mut validator = weak.validators[0].clone();
            (validator.node, validator.key) = (at as u64 + 10, key);
            weak.validators.push(validator);
        }
        weak.validators.retain(|validator| validator.node > 9);
        let weak = TrustedSet {
            height: 1,
            set: weak,
            ..genesis.clone()
        };
        Self {
            draw: Draw::new(seed),
            trusted: vec![
                genesis.clone(),
                set(4, &[2, 3, 4, 5]),
                set(6, &[3, 4, 5, 6, 7]),
                set(3, &[3, 4, 5, 6, 7]),
                set(9, &[1, 2, 3, 4]),
                set(0, &[1]),
                weak,
            ],
            state: state_records(&all),
            actions: of(&all, "Action"),
            notifications: notifications.collect(),
            chains,
        }
    }

    /// File number `n`; every second one is changed.
    pub fn case(&mut self, n: usize) -> Case {
        let changed = n % 2 == 1;
        let (mut bundle, mut trusted, signers) = self.bundle(changed);
        if changed && self.draw.one_in(3) {
            self.change_below_signatures(&mut bundle, &signers);
            let weak = self.trusted.len() - 1;
            if bundle.head.header.validators_hash == self.trusted[weak].set.hash() {
                trusted = weak;
            }
        } else if changed && self.draw.one_in(8) {
            trusted = self.draw.below(self.trusted.len());
        } else if changed {
            let mut file = self.file(&bundle, trusted);
            for _ in 0..=self.draw.below(2) {
                file = self.change_text(file);
            }
            return Case { file, trusted };
        }
        let file = self.file(&bundle, trusted);
        Case { file, trusted }
    }

    /// A bundle that holds from the set with the number, and the nodes that sign its head.
    fn bundle(&mut self, changed: bool) -> (ProofBundle, usize, Vec<u8>) {
        let (chain, trusted) =
            *self
                .draw
                .of(&[(0, 0), (0, 5), (1, 0), (1, 3), (2, 0), (2, 1), (2, 2)]);
        let lowest = self.trusted[trusted].height as usize;
        let head = lowest + 1 + self.draw.below(11 - lowest);
        let height = match self.draw.below(3) {
            0 => head,
            _ => self.draw.below(head + 1),
        };
        let source = &self.chains[chain];
        let mut records = source.records(height as u64);
        // Keys that are of no table have no statement: some changed ones are such.
        records.retain(|record| match record {
            RecordProof::State { key, .. } => StateKey::parse(&key.0).is_some(),
            _ => true,
        });
        let record = self.draw.of(&records).clone();
        let mut bundle = source.bundle(record, height as u64, head as u64);
        let set = self.chains[chain].blocks[head].in_force.clone();
        let mut signers: Vec<u8> = set.validators.iter().map(|v| v.node as u8).collect();
        if trusted == 5 {
            signers = vec![1];
            bundle.head.header.validators_hash = self.trusted[5].set.hash();
            bundle.head.certificate = certify(&bundle.head.header, &signers);
        }
        if !matches!(bundle.record, RecordProof::State { .. }) || !self.draw.one_in(3) {
            self.replace_record(&mut bundle, changed);
            self.sign(&mut bundle, &signers);
        }
        (bundle, trusted, signers)
    }

    fn sign(&mut self, bundle: &mut ProofBundle, signers: &[u8]) {
        let quorum = (signers.len() + (signers.len() - 1) / 3) / 2 + 1;
        let count = quorum + self.draw.below(signers.len() - quorum + 1);
        bundle.head.certificate = certify(&bundle.head.header, &signers[..count]);
    }

    /// Puts a record of any kind into the block of the head, which is then to be signed anew.
    fn replace_record(&mut self, bundle: &mut ProofBundle, changed: bool) {
        bundle.ancestor = None;
        let kind = self.draw.below(4);
        let mut items: Vec<Vec<u8>> = Vec::new();
        for _ in 0..=self.draw.below(12) {
            items.push(self.draw.hash().0.to_vec());
        }
        let index = self.draw.below(items.len());
        let twisted = changed && self.draw.one_in(2);
        let header = &mut bundle.head.header;
        if kind == 0 {
            bundle.record = self.state_record(header, twisted);
            return;
        }
        let transaction = self.transaction(&header.chain_id, twisted);
        items[index] = match kind {
            1 => codec::encode(&transaction),
            2 => self.receipt(),
            _ => self.event(),
        };
        if twisted && kind > 1 {
            items[index] = self.twist(items[index].clone());
        }
        let bytes = HexBytes(items[index].clone());
        let tree = ListTree::new(&items);
        let place = tree.prove(index as u64).unwrap();
        let root = tree.block_root();
        bundle.record = match kind {
            1 => {
                header.tx_root = root;
                RecordProof::Transaction { transaction, place }
            }
            2 => {
                header.receipt_root = root;
                RecordProof::Receipt {
                    receipt: bytes,
                    place,
                }
            }
            _ => {
                header.event_root = root;
                RecordProof::Event {
                    event: bytes,
                    place,
                }
            }
        };
    }

    /// A record of any table, or its absence, in a state whose other subtrees are made up.
    fn state_record(&mut self, header: &mut Header, twisted: bool) -> RecordProof {
        let (mut key, mut value) = self.draw.of(&self.state).clone();
        if twisted && self.draw.one_in(8) {
            // The levels of a district in one text: the same name under another key.
            let by_district = self.state.iter().find(|(key, _)| key[0] == 0x13);
            (key, value) = by_district.unwrap().clone();
            let end = key.iter().position(|byte| *byte == 0).unwrap();
            key[end] = b'/';
        } else if twisted && self.draw.one_in(2) {
            key = self.twist(key);
        } else if twisted && self.draw.one_in(4) {
            // Revoked or not: a byte that is neither.
            (key, value) = self.state[2].clone();
            *value.last_mut().unwrap() = 2;
        } else if twisted {
            value = self.twist(value);
        }
        let siblings: Vec<_> = (0..self.draw.below(6)).map(|_| self.draw.hash()).collect();
        let digest = Hash::of(&key);
        let value_bytes = value;
        let (value, other) = match self.draw.below(4) {
            0 => (None, None),
            1 => {
                let mut other = digest;
                let bit = siblings.len() + self.draw.below(3)
                    - usize::from(twisted && !siblings.is_empty());
                other.0[bit / 8] ^= 0x80 >> (bit % 8);
                (
                    None,
                    Some(OtherLeaf {
                        key: other,
                        value: self.draw.hash(),
                    }),
                )
            }
            2 if twisted => {
                let (key, value) = (self.draw.hash(), self.draw.hash());
                (Some(value_bytes), Some(OtherLeaf { key, value }))
            }
            _ => (Some(value_bytes), None),
        };
        let end = match (&value, &other) {
            (Some(value), _) => merkle::sparse::leaf(&digest, &Hash::of(value)),
            (None, Some(other)) => merkle::sparse::leaf(&other.key, &other.value),
            (None, None) => merkle::sparse::EMPTY,
        };
        header.state_root =
            siblings
                .iter()
                .enumerate()
                .rev()
                .fold(
                    end,
                    |hash, (depth, sibling)| match merkle::sparse::branches_right(&digest, depth) {
                        true => merkle::sparse::node(sibling, &hash),
                        false => merkle::sparse::node(&hash, sibling),
                    },
                );
        let path = StateProof { siblings, other };
        RecordProof::State {
            key: HexBytes(key),
            value: value.map(HexBytes),
            path,
        }
    }

    fn transaction(&mut self, chain_id: &Hash, twisted: bool) -> SignedTransaction {
        let transaction = Transaction {
            sender: "alice".parse().unwrap(),
            sequence: [1, (1 << 53) + 1, u64::MAX][self.draw.below(3)],
            expires_ms: 1_790_000_060_000,
            action: self.draw.of(&self.actions).clone(),
        };
        let encoding = *self.draw.of(&[Encoding::Json, Encoding::Bincode]);
        let mut signed = SignedTransaction::sign(&transaction, encoding, chain_id, &secret(100));
        if twisted {
            let payload = std::mem::take(&mut signed.payload.0);
            signed.payload.0 = match encoding {
                Encoding::Bincode => self.twist(payload),
                Encoding::Json => self.change_text(payload),
            };
            signed.signature = secret(100).sign(&signed.signing_bytes(chain_id));
        }
        if self.draw.one_in(6) {
            signed.key = *self.draw.of(&weak_keys());
            signed.signature = self.weak_signature(twisted);
        }
        signed
    }

    fn receipt(&mut self) -> Vec<u8> {
        let outcome = match self.draw.below(3) {
            0 => Outcome::Succeeded,
            count => Outcome::Failed {
                code: "firmware.unknown_release".to_owned(),
                fields: (0..count)
                    .map(|n| (format!("f{n} ü"), "\u{1b}\"\\".to_owned()))
                    .collect(),
            },
        };
        let count = self.draw.below(3);
        let notifications = (0..count).map(|_| self.draw.of(&self.notifications).clone());
        let notifications = notifications.collect();
        codec::encode(&Receipt {
            transaction: self.draw.hash(),
            outcome,
            notifications,
        })
    }

    fn event(&mut self) -> Vec<u8> {
        let mut record = event(self.draw.below(9) as u64);
        record.event.data = ["", "{\"a\":1}", "ä\u{202e}\n"][self.draw.below(3)].to_owned();
        record.event.signature = self.draw.one_in(2).then_some(Signature([9; 64]));
        codec::encode(&record)
    }

    /// A signature that holds for every message under a key of small order, or perhaps just not.
    fn weak_signature(&mut self, spoiled: bool) -> Signature {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.draw.of(&weak_keys()).0);
        match self.draw.below(4) {
            _ if !spoiled => (),
            0 => bytes[32..].copy_from_slice(&hex::decode(ORDER).unwrap()),
            1 => bytes[..32].copy_from_slice(&self.draw.hash().0),
            _ => (),
        }
        Signature(bytes)
    }

    /// Bytes with a small change at any place.
    fn twist(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let at = self.draw.below(bytes.len());
        match self.draw.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.push(0),
            2 => bytes.insert(at, *self.draw.of(&[0, 1, 2])),
            3 => bytes[at] = *self.draw.of(&[0, 1, 2, 0x7f, 0x80, 0xff]),
            4 => bytes[at] = bytes[at].wrapping_add(1),
            _ => bytes[at] ^= 1 << self.draw.below(8),
        }
        bytes
    }

    fn change_below_signatures(&mut self, bundle: &mut ProofBundle, signers: &[u8]) {
        let hash = self.draw.hash();
        let header = &mut bundle.head.header;
        let certified = match self.draw.below(14) {
            0 => return header.version = 3,
            1 => return header.height += 1,
            2 => return self.weak_head(bundle),
            3 => return self.change_certificate(&mut bundle.head.certificate),
            4 => return self.change_set_changes(&mut bundle.set_changes),
            5 => [*signers.first().unwrap(), 11].to_vec(),
            6 => signers[..signers.len() / 2].to_vec(),
            kind => {
                match kind {
                    7 => header.height = [0, 3, 4, 6, u64::MAX][self.draw.below(5)],
                    8 => header.version = [0, 1, 3][self.draw.below(3)],
                    9 => header.chain_id = hash,
                    10 => header.history_root = hash,
                    11 => header.validators_hash = hash,
                    12 => header.state_root = hash,
                    _ => header.timestamp_ms = u64::MAX,
                }
                signers.to_vec()
            }
        };
        bundle.head.certificate = certify(&bundle.head.header, &certified);
    }

    /// The head as validators with keys of small order would sign it.
    fn weak_head(&mut self, bundle: &mut ProofBundle) {
        let weak = self.trusted.last().unwrap().set.clone();
        bundle.set_changes.clear();
        bundle.head.header.validators_hash = weak.hash();
        let header = bundle.head.header.hash();
        let signatures = weak
            .validators
            .iter()
            .map(|validator| CertificateSignature {
                key: validator.key,
                signature: self.weak_signature(false),
            });
        let mut signatures: Vec<_> = signatures.collect();
        signatures.sort_by_key(|signed| signed.key);
        signatures.truncate(9 + self.draw.below(6));
        if self.draw.one_in(2) {
            signatures[0].signature = self.weak_signature(true);
        }
        bundle.head.certificate = Certificate {
            height: bundle.head.header.height,
            header,
            signatures,
        };
    }

    fn change_certificate(&mut self, certificate: &mut Certificate) {
        let count = certificate.signatures.len();
        let (at, other) = (self.draw.below(count), self.draw.below(count));
        match self.draw.below(8) {
            0 => certificate.height += 1,
            1 => certificate.header = self.draw.hash(),
            2 => certificate.signatures.swap(at, other),
            3 => drop(certificate.signatures.remove(at)),
            4 => certificate
                .signatures
                .insert(at, certificate.signatures[at].clone()),
            5 => certificate.signatures[at].signature = certificate.signatures[other].signature,
            6 => certificate.signatures[at].signature.0[63] |= 0x10,
            _ => certificate.signatures[at].key = secret(11).public(),
        }
    }

    fn change_set_changes(&mut self, changes: &mut Vec<SetChange>) {
        if changes.is_empty() {
            return;
        }
        let at = self.draw.below(changes.len());
        let other = self.draw.below(changes.len());
        match self.draw.below(9) {
            0 => drop(changes.remove(at)),
            1 => changes.swap(at, other),
            2 => changes.insert(at, changes[at].clone()),
            3 => changes[at].next = validators(&[1, 2, 3, 4]),
            4 => changes[at].next.validators.clear(),
            5 => changes[at].in_force = validators(&[3, 4, 5, 6]),
            6 => changes[at].path.siblings.push(Hash::ZERO),
            7 => self.change_certificate(&mut changes[at].certified.certificate),
            _ => changes[at].certified.header.height = [0, 3, 9, 11][self.draw.below(4)],
        }
    }

    /// The text of a file: the bundle alone, or beside the record that it proves.
    fn file(&mut self, bundle: &ProofBundle, trusted: usize) -> Vec<u8> {
        let trusted = &self.trusted[trusted];
        let proven = bundle.verify(trusted).ok();
        let statement = proven.and_then(|p| Statement::of(bundle, &p, trusted.height).ok());
        match statement {
            Some(statement) if self.draw.one_in(2) => {
                ProofFile::new(bundle.clone(), &statement).to_json()
            }
            _ => bundle.to_json(),
        }
    }

    fn change_text(&mut self, text: Vec<u8>) -> Vec<u8> {
        if self.draw.one_in(3) {
            return self.change_bytes(text);
        }
        let Ok(mut tree) = serde_json::from_slice::<Value>(&text) else {
            return text;
        };
        let donor = tree.clone();
        for _ in 0..=self.draw.below(2) {
            self.change_value(&mut tree, &donor);
        }
        serde_json::to_vec(&tree).unwrap()
    }

    fn change_bytes(&mut self, mut text: Vec<u8>) -> Vec<u8> {
        let at = self.draw.below(text.len());
        let number = text
            .iter()
            .skip(at)
            .position(u8::is_ascii_digit)
            .map_or(0, |n| at + n);
        let (place, piece): (usize, &[u8]) = match self.draw.below(16) {
            0 => return text[..at].to_vec(),
            1 => (text.len(), b" \n\t\r"),
            2 => (text.len(), b"{}"),
            3 => (0, b"\xef\xbb\xbf"),
            4 => (0, b" "),
            5 => (at, b"\xff"),
            6 => (at, b"\x01"),
            7 => (number, b"0"),
            8 => (number, b"9007199254740993"),
            9 => (number + 1, b".0"),
            10 => (number + 1, b"e1"),
            11 => (number, b"-"),
            12 => (1, b"\"version\":2,"),
            13 => (
                at,
                [&b","[..], b":", b"\"", b"]", b"}", b"\\"][self.draw.below(6)],
            ),
            14 => (at, ESCAPES[self.draw.below(ESCAPES.len())]),
            _ => return self.twist(text),
        };
        text.splice(
            place.min(text.len())..place.min(text.len()),
            piece.iter().copied(),
        );
        text
    }

    /// Changes one value at any depth; the donor has values to put in its place.
    fn change_value(&mut self, value: &mut Value, donor: &Value) {
        let inner = match value {
            Value::Object(members) if !members.is_empty() && !self.draw.one_in(12) => {
                let at = self.draw.below(members.len());
                members.values_mut().nth(at)
            }
            Value::Array(items) if !items.is_empty() && !self.draw.one_in(6) => {
                let at = self.draw.below(items.len());
                items.get_mut(at)
            }
            _ => None,
        };
        if let Some(inner) = inner {
            return self.change_value(inner, donor);
        }
        let changed = match value {
            Value::Null => json!({}),
            Value::Bool(flag) => json!(!*flag),
            Value::Number(number) => self.number(number.as_u64().unwrap_or(0)),
            Value::String(text) => self.string(text),
            Value::Array(items) => self.array(items),
            Value::Object(members) => self.object(members),
        };
        *value = match self.draw.below(8) {
            0 => Value::Null,
            1 => self.part(donor),
            _ => changed,
        };
    }

    fn part(&mut self, donor: &Value) -> Value {
        let inner = match donor {
            Value::Object(members) if !members.is_empty() => {
                members.values().nth(self.draw.below(members.len()))
            }
            Value::Array(items) if !items.is_empty() => items.get(self.draw.below(items.len())),
            _ => None,
        };
        match inner {
            Some(inner) if !self.draw.one_in(4) => self.part(inner),
            _ => donor.clone(),
        }
    }

    fn number(&mut self, number: u64) -> Value {
        match self.draw.below(7) {
            0 => json!(number.wrapping_add(1)),
            1 => json!(number.wrapping_sub(1)),
            2 => json!(-1),
            3 => json!((1u64 << 53) + 1),
            4 => json!(u64::MAX),
            5 => json!(1u64 << 32),
            _ => json!(number.to_string()),
        }
    }

    fn string(&mut self, text: &str) -> Value {
        let mut digits = text.to_owned().into_bytes();
        let at = self.draw.below(digits.len().max(1));
        match self.draw.below(7) {
            0 => return json!(text.to_uppercase()),
            1 => return json!(format!("{text}0")),
            2 => return json!(""),
            3 => return json!({ text: null }),
            4 if digits.len() > 1 => digits.truncate(digits.len() - 2),
            5 if digits.len() == 64 => {
                // The list of numbers that transactions in JSON may have instead.
                let words = hex::decode(text).unwrap_or_else(|_| vec![0; 32]);
                let words = words.as_chunks::<8>().0.iter();
                return json!(words.map(|w| u64::from_le_bytes(*w)).collect::<Vec<_>>());
            }
            _ if !digits.is_empty() && digits[at].is_ascii() => {
                digits[at] = *self.draw.of(b"0123456789abcdefA-/");
            }
            _ => (),
        }
        json!(String::from_utf8_lossy(&digits))
    }

    fn array(&mut self, items: &[Value]) -> Value {
        let mut items = items.to_vec();
        if items.is_empty() {
            return json!([0]);
        }
        let (at, other) = (self.draw.below(items.len()), self.draw.below(items.len()));
        match self.draw.below(4) {
            0 => drop(items.remove(at)),
            1 => items.insert(at, items[other].clone()),
            2 => items.swap(at, other),
            _ => items.clear(),
        }
        json!(items)
    }

    fn object(&mut self, members: &Map<String, Value>) -> Value {
        let mut members = members.clone();
        let at = self.draw.below(members.len().max(1));
        let name = members.keys().nth(at).cloned().unwrap_or_default();
        match self.draw.below(4) {
            0 => return members.values().cloned().collect(),
            1 => drop(members.insert("unknown".to_owned(), json!(1))),
            2 => return json!(name),
            _ => drop(members.remove(&name)),
        }
        json!(members)
    }
}
