//! Configurations written to the standard resources of devices that know more or less of LwM2M 1.1.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter_types::Hash;
use tokio::sync::mpsc;

use super::super::{South, SouthCommand, SouthConfig, SouthEvent, WorkNotice};
use super::foreign::NAME;
use crate::coap::simulated::{Faults, SimulatedNetwork};
use crate::coap::{CoapConfig, CoapEndpoint, CoapService, Code, Peer, Request, Response, format};
use crate::lwm2m::path;
use crate::lwm2m::resource::{self, Resource, ResourceValue};
use crate::lwm2m::senml::{self, SenmlValue};
use crate::lwm2m::value::parse_tlv;

const FAULTS: Faults = Faults {
    drop: 0.1,
    duplicate: 0.1,
    delay_max: Duration::from_millis(50),
};

/// What a device knows.
#[derive(Debug, Clone)]
struct Abilities {
    composite: bool,
    /// It acknowledges an operation that it does not know, and never answers.
    silent: bool,
    discover: bool,
    update: bool,
    formats: Vec<u16>,
    /// A resource whose values above 50 are refused.
    refuses: Option<&'static str>,
    /// A resource that keeps no value above 50.
    clamps: Option<&'static str>,
    root: &'static str,
}

/// A device of LwM2M 1.0 that has TLV only.
fn plain() -> Abilities {
    Abilities {
        composite: false,
        silent: false,
        discover: true,
        update: true,
        formats: vec![format::LWM2M_TLV],
        refuses: None,
        clamps: None,
        root: "",
    }
}

struct Device {
    abilities: Abilities,
    values: Mutex<BTreeMap<String, i64>>,
    asked: Mutex<Vec<String>>,
}

impl Device {
    fn values(&self) -> BTreeMap<String, i64> {
        self.values.lock().unwrap().clone()
    }

    /// The requests that change something, each once.
    fn changes(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let is_read = |line: &&String| line.starts_with("0.01") || line.starts_with("0.05");
        asked
            .iter()
            .filter(|line| !is_read(line))
            .cloned()
            .collect()
    }

    fn knows_format(&self, format: Option<u16>) -> bool {
        format.is_none_or(|format| self.abilities.formats.contains(&format))
    }

    /// The named numbers in a body, all of the same base.
    fn named(&self, request: &Request, base: &str) -> Option<Vec<(String, i64)>> {
        let body = &request.payload;
        Some(match request.content_format? {
            format::TEXT => {
                let text = String::from_utf8(body.clone()).ok()?;
                vec![(base.to_owned(), text.parse().ok()?)]
            }
            format::LWM2M_TLV => {
                let entries = parse_tlv(body)?;
                let (base, entries) = match entries.first()?.kind {
                    0 => (
                        format!("{base}/{}", entries[0].id),
                        parse_tlv(entries[0].value)?,
                    ),
                    _ => (base.to_owned(), entries),
                };
                let is_instance = base.matches('/').count() == 2;
                let name = |id: u16| match is_instance {
                    true => format!("{base}/{id}"),
                    false => base.clone(),
                };
                let entries = entries.iter();
                entries
                    .map(|e| (name(e.id), i64::from(e.value[0])))
                    .collect()
            }
            format::SENML_CBOR => {
                let records = senml::from_cbor(body)?;
                let number = |value: Option<SenmlValue>| match value {
                    Some(SenmlValue::Integer(number)) => Some(number),
                    _ => None,
                };
                let named = records
                    .into_iter()
                    .map(|r| Some((r.name, number(r.value)?)));
                named.collect::<Option<_>>()?
            }
            _ => return None,
        })
    }

    fn write(&self, named: Option<Vec<(String, i64)>>, done: Code, exists: bool) -> Response {
        let Some(named) = named else {
            return Response::new(Code::BAD_REQUEST);
        };
        let mut values = self.values.lock().unwrap();
        let is_bad = |(name, value): &(String, i64)| {
            (self.abilities.refuses == Some(name) && *value > 50)
                || (exists && !values.contains_key(name))
        };
        if named.iter().any(is_bad) {
            return Response::error(Code::BAD_REQUEST, "not this value");
        }
        for (name, value) in named {
            let clamped = self.abilities.clamps == Some(&name);
            values.insert(name, if clamped { value.min(50) } else { value });
        }
        Response::new(done)
    }

    fn discover(&self, instance: &str) -> Response {
        let values = self.values();
        let links: Vec<String> = values
            .keys()
            .filter(|path| path.starts_with(&format!("{instance}/")))
            .map(|path| format!("<{}{path}>", self.abilities.root))
            .collect();
        if links.is_empty() {
            return Response::new(Code::NOT_FOUND);
        }
        let links = format!("<{instance}>;pmin=5,{}", links.join(","));
        Response::content(format::LINK_FORMAT, links.into_bytes())
    }

    fn read(&self, path: &str) -> Response {
        match self.values().get(path) {
            Some(value) => {
                let (path, value) = (path.parse().unwrap(), ResourceValue::Integer(*value));
                let body = resource::write_one(&Resource { path, value }, format::LWM2M_TLV);
                Response::content(format::LWM2M_TLV, body.unwrap())
            }
            None => self.read_instance(path),
        }
    }

    fn below(&self, path: &str) -> Vec<Resource> {
        let values = self.values();
        let below = values
            .iter()
            .filter(|(name, _)| name.starts_with(&format!("{path}/")));
        let resource = |(name, value): (&String, &i64)| Resource {
            path: name.parse().unwrap(),
            value: ResourceValue::Integer(*value),
        };
        below.map(resource).collect()
    }

    fn read_instance(&self, path: &str) -> Response {
        let values = self.below(path);
        if values.is_empty() {
            return Response::new(Code::NOT_FOUND);
        }
        let body = resource::write_all(&values, format::LWM2M_TLV).unwrap();
        Response::content(format::LWM2M_TLV, body)
    }

    fn read_all(&self, request: &Request) -> Response {
        let names = senml::from_cbor(&request.payload).unwrap();
        let values = self.values();
        let named = names
            .iter()
            .flat_map(|record| match values.get(&record.name) {
                Some(value) => wanted(&[(&record.name, *value)]),
                None => self.below(&record.name),
            });
        let named: Vec<_> = named.collect();
        let body = resource::write_all(&named, format::SENML_CBOR).unwrap();
        Response::content(format::SENML_CBOR, body)
    }
}

#[async_trait]
impl CoapService for Device {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        let abilities = &self.abilities;
        let path = request.path_text();
        let line = format!("{:?} {path} {:?}", request.method, request.content_format);
        // Attributes of an observation change no value.
        if request.query.is_empty() {
            self.asked.lock().unwrap().push(line);
        }
        let Some(path) = path.strip_prefix(abilities.root) else {
            return Response::new(Code::NOT_FOUND);
        };
        let of = path.matches('/').count();
        match (request.method, of) {
            (Code::FETCH | Code::IPATCH, _) if abilities.silent => std::future::pending().await,
            (Code::FETCH | Code::IPATCH, _) if !abilities.composite => {
                Response::new(Code::METHOD_NOT_ALLOWED)
            }
            (Code::FETCH, _) => self.read_all(&request),
            (Code::GET, 2) if request.accept == Some(format::LINK_FORMAT) && abilities.discover => {
                self.discover(path)
            }
            (Code::GET, _) if !self.knows_format(request.accept) => {
                Response::new(Code::NOT_ACCEPTABLE)
            }
            (Code::GET, _) => self.read(path),
            (Code::DELETE, 2) => {
                let below = format!("{path}/");
                let mut values = self.values.lock().unwrap();
                values.retain(|name, _| !name.starts_with(&below));
                Response::new(Code::DELETED)
            }
            (Code::POST, 2) if !abilities.update => Response::new(Code::METHOD_NOT_ALLOWED),
            _ if !self.knows_format(request.content_format) => {
                Response::new(Code::UNSUPPORTED_FORMAT)
            }
            (Code::POST, 1) => self.write(self.named(&request, path), Code::CREATED, false),
            (Code::IPATCH | Code::POST | Code::PUT, _) => {
                self.write(self.named(&request, path), Code::CHANGED, true)
            }
            _ => Response::new(Code::METHOD_NOT_ALLOWED),
        }
    }
}

fn at(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 5683).into()
}

fn wanted(values: &[(&str, i64)]) -> Vec<Resource> {
    let one = |(path, value): &(&str, i64)| Resource {
        path: path.parse().unwrap(),
        value: ResourceValue::Integer(*value),
    };
    values.iter().map(one).collect()
}

/// A registered device that has these values, with the gateway's side.
struct Bed {
    south: South,
    events: mpsc::Receiver<SouthEvent>,
    device: Arc<Device>,
    _endpoint: CoapEndpoint,
}

impl Bed {
    async fn new(abilities: Abilities, before: &[(&str, i64)], links: &str) -> Self {
        let network = SimulatedNetwork::new(9, FAULTS);
        let (sender, events) = mpsc::channel(64);
        let served = Arc::new(|name: &str| name.starts_with("urn:lamp:"));
        let config = SouthConfig::default();
        let south = South::start(network.attach(at(1)), config, served, sender).unwrap();
        let device = Arc::new(Device {
            abilities,
            values: Mutex::new(before.iter().map(|(p, v)| ((*p).to_owned(), *v)).collect()),
            asked: Mutex::default(),
        });
        let config = CoapConfig::default();
        let endpoint = CoapEndpoint::start(network.attach(at(2)), config, device.clone()).unwrap();
        let request = Request::new(Code::POST, path::REGISTRATION);
        let request = NAME
            .iter()
            .fold(request, |r, q| r.with_query((*q).to_owned()));
        let request = request.with_payload(format::LINK_FORMAT, links.as_bytes().to_vec());
        let created = endpoint.handle().request(at(1), request).await.unwrap();
        assert_eq!(created.code, Code::CREATED);
        Self {
            south,
            events,
            device,
            _endpoint: endpoint,
        }
    }

    /// Gives a command, and waits for a result of it.
    async fn run<T>(
        mut self,
        command: SouthCommand,
        result: impl Fn(WorkNotice) -> Option<T>,
    ) -> (T, Arc<Device>) {
        self.south.command(command).await.unwrap();
        let found = async {
            loop {
                if let SouthEvent::Work { notice, .. } = self.events.recv().await.unwrap()
                    && let Some(found) = result(notice)
                {
                    return found;
                }
            }
        };
        let limit = Duration::from_secs(24 * 3600);
        let found = tokio::time::timeout(limit, found).await.unwrap();
        self.south.close().await;
        (found, self.device)
    }
}

/// Applies values to a device that has others; returns the result, and the device.
async fn apply(
    abilities: Abilities,
    before: &[(&str, i64)],
    values: &[(&str, i64)],
) -> (bool, String, Arc<Device>) {
    let links = match abilities.root {
        "" => "</3/0>,</3311/0>".to_owned(),
        root => format!("<{root}>;rt=\"oma.lwm2m\",<{root}/3311/0>"),
    };
    let bed = Bed::new(abilities, before, &links).await;
    let command = SouthCommand::Apply {
        endpoint: "urn:lamp:7".to_owned(),
        document: Hash::of(b"document"),
        values: wanted(values),
    };
    let result = |notice| match notice {
        WorkNotice::Applied {
            document,
            applied,
            detail,
        } if document == Hash::of(b"document") => Some((applied, detail)),
        _ => None,
    };
    let ((applied, detail), device) = bed.run(command, result).await;
    (applied, detail, device)
}

const DIM: &str = "/3311/0/5851";
const DIM_2: &str = "/3311/1/5851";
const TIMER: &str = "/3311/0/5852";

#[tokio::test(start_paused = true)]
async fn values_are_written_in_the_format_that_the_thing_takes() {
    let (applied, detail, device) = apply(plain(), &[(DIM, 30)], &[(DIM, 80)]).await;
    assert!(applied, "{detail}");
    assert_eq!(detail, "1 of 1 resources written");
    assert_eq!(device.values()[DIM], 80);
    let changes = device.changes();
    let put = |format: u16| format!("0.03 {DIM} Some({format})");
    assert_eq!(changes, [put(format::TEXT), put(format::LWM2M_TLV)]);
}

/// The values of an instance go as one partial update; what is right already is not written.
#[tokio::test(start_paused = true)]
async fn only_what_differs_is_written_and_an_instance_at_once() {
    let before = [("/3311/0/5850", 1), (DIM, 30), (TIMER, 7)];
    let values = [("/3311/0/5850", 1), (DIM, 80), (TIMER, 8)];
    let (applied, detail, device) = apply(plain(), &before, &values).await;
    assert!(applied, "{detail}");
    assert_eq!(detail, "2 of 3 resources written");
    let update = format!("0.02 /3311/0 Some({})", format::LWM2M_TLV);
    assert_eq!(device.changes(), [update]);
    let (applied, detail, device) = apply(plain(), &values, &values).await;
    assert_eq!(
        (applied, detail.as_str()),
        (true, "0 of 3 resources written")
    );
    assert_eq!(device.changes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_thing_of_lwm2m_1_1_gets_all_values_at_once() {
    let abilities = Abilities {
        composite: true,
        formats: vec![format::SENML_CBOR],
        root: "/lw",
        ..plain()
    };
    let (before, values) = ([(DIM, 30), (DIM_2, 31)], [(DIM, 80), (DIM_2, 81)]);
    let (applied, detail, device) = apply(abilities.clone(), &before, &values).await;
    assert!(applied, "{detail}");
    assert_eq!(device.values(), wanted_values(&values));
    let patch = format!("0.07 /lw Some({})", format::SENML_CBOR);
    assert_eq!(device.changes(), [patch]);
    // Refused as a whole, it shows one by one which value is the bad one.
    let abilities = Abilities {
        refuses: Some(DIM_2),
        ..abilities
    };
    let (applied, detail, device) = apply(abilities, &before, &values).await;
    assert!(!applied);
    let reason = format!("lwm2m.refused: {DIM_2}: 4.00 not this value");
    assert_eq!(detail, reason);
    assert_eq!(device.values(), wanted_values(&before));
}

fn wanted_values(values: &[(&str, i64)]) -> BTreeMap<String, i64> {
    values.iter().map(|(p, v)| ((*p).to_owned(), *v)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_thing_has_the_whole_configuration_or_the_former_one() {
    let before = [(DIM, 30), (TIMER, 7), (DIM_2, 31)];
    let values = [(DIM, 80), (TIMER, 8), (DIM_2, 81)];
    for update in [true, false] {
        let abilities = Abilities {
            refuses: Some(DIM_2),
            update,
            ..plain()
        };
        let (applied, detail, device) = apply(abilities, &before, &values).await;
        assert!(!applied && detail.starts_with("lwm2m.refused: /3311/1/5851: 4.00"));
        assert!(!detail.contains("not restored"), "{detail}");
        assert_eq!(device.values(), wanted_values(&before));
        let was_written = device.changes().iter().any(|line| line.contains("/3311/0"));
        assert!(was_written, "nothing had to be restored");
    }
    // It accepts the value, and keeps another one.
    let abilities = Abilities {
        clamps: Some(DIM_2),
        ..plain()
    };
    let (applied, detail, device) = apply(abilities, &before, &values).await;
    assert!(!applied);
    let reason = format!("lwm2m.differs: {DIM_2} is 50, 81 was written");
    assert_eq!(detail, reason);
    assert_eq!(device.values(), wanted_values(&before));
}

#[tokio::test(start_paused = true)]
async fn a_missing_resource_ends_it_before_anything_is_written() {
    let values = [(DIM, 80), (TIMER, 8)];
    let (applied, detail, device) = apply(plain(), &[(DIM, 30)], &values).await;
    let reason = format!("lwm2m.no_resource: the Thing has no {TIMER}");
    assert_eq!((applied, detail), (false, reason));
    assert_eq!(device.changes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_instance_is_created_and_deleted_again_when_the_rest_fails() {
    let values = [(DIM, 80), (DIM_2, 81), ("/3311/1/5852", 9)];
    let (applied, detail, device) = apply(plain(), &[(DIM, 30)], &values).await;
    assert!(applied, "{detail}");
    assert_eq!(device.values(), wanted_values(&values));
    let create = format!("0.02 /3311 Some({})", format::LWM2M_TLV);
    assert_eq!(device.changes()[0], create);
    let abilities = Abilities {
        refuses: Some(DIM),
        ..plain()
    };
    let (applied, detail, device) = apply(abilities, &[(DIM, 30)], &values).await;
    assert!(
        !applied && detail.starts_with("lwm2m.refused: /3311/0/5851"),
        "{detail}"
    );
    assert_eq!(device.values(), wanted_values(&[(DIM, 30)]));
    assert!(device.changes().contains(&"0.04 /3311/1 None".to_owned()));
}

/// A device that knows neither discovery nor composite operations: what it does not list is found
/// by the reads.
#[tokio::test(start_paused = true)]
async fn a_thing_without_discovery_is_configured_too() {
    let abilities = Abilities {
        discover: false,
        update: false,
        ..plain()
    };
    let before = [(DIM, 30), (TIMER, 7)];
    let values = [(DIM, 80), (TIMER, 8)];
    let (applied, detail, device) = apply(abilities, &before, &values).await;
    assert!(applied, "{detail}");
    assert_eq!(device.values(), wanted_values(&values));
}

/// One message for all where the device knows composite operations, else one for each instance.
#[tokio::test(start_paused = true)]
async fn an_inventory_takes_as_few_messages_as_the_thing_knows() {
    let before = [
        ("/1/0/1", 86_400),
        ("/3/0/9", 80),
        ("/4/0/2", -70),
        (DIM, 3),
    ];
    let links = "</1/0>,</3/0>,</4/0>,</6/0>,</3311/0>";
    for (composite, format) in [(true, format::SENML_CBOR), (false, format::LWM2M_TLV)] {
        let abilities = Abilities {
            composite,
            formats: vec![format],
            ..plain()
        };
        let bed = Bed::new(abilities, &before, links).await;
        let endpoint = "urn:lamp:7".to_owned();
        let inspected = |notice| match notice {
            WorkNotice::Inspected { values } => Some(values),
            _ => None,
        };
        let (values, device) = bed.run(SouthCommand::Inspect { endpoint }, inspected).await;
        let expected = before[..3].iter().map(|(path, value)| {
            let value = ResourceValue::Integer(*value);
            ((*path).to_owned(), value)
        });
        assert_eq!(values, expected.collect::<Vec<_>>());
        let asked = device.asked.lock().unwrap();
        let reads = asked.iter().filter(|line| !line.contains("3311")).count();
        // The refused composite read, SenML and then TLV, and the other three instances.
        assert_eq!(reads, if composite { 1 } else { 6 }, "{asked:?}");
    }
}

/// As Eclipse Wakaama does: what it does not know costs seconds, and once.
#[tokio::test(start_paused = true)]
async fn a_thing_that_is_silent_about_composite_operations_is_configured_soon() {
    let abilities = Abilities {
        silent: true,
        ..plain()
    };
    let before = [("/3/0/9", 80), ("/4/0/2", -70), (DIM, 30), (TIMER, 7)];
    let bed = Bed::new(abilities, &before, "</3/0>,</4/0>,</3311/0>").await;
    let endpoint = "urn:lamp:7".to_owned();
    let inspect = SouthCommand::Inspect {
        endpoint: endpoint.clone(),
    };
    bed.south.command(inspect).await.unwrap();
    let apply = SouthCommand::Apply {
        endpoint,
        document: Hash::of(b"document"),
        values: wanted(&[(DIM, 80), (TIMER, 8)]),
    };
    let begin = tokio::time::Instant::now();
    let applied = |notice| match notice {
        WorkNotice::Applied { applied, .. } => Some(applied),
        _ => None,
    };
    let (applied, device) = bed.run(apply, applied).await;
    assert!(applied && device.values()[TIMER] == 8);
    // Repetitions over a network that loses datagrams take some time too.
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    let asked = device.asked.lock().unwrap();
    let trials = asked.iter().filter(|line| line.starts_with("0.05")).count();
    assert_eq!(trials, 1, "{asked:?}");
}
