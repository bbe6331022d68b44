use lamplighter_types::Id;
use lamplighter_types::json::JsonProblem;

use crate::refusal::refusals;
use crate::validate::FieldError;

refusals! {
    /// Why the config contract refuses an action.
    pub enum ConfigError [Field(FieldError)] {
        Document { at: usize, problem: JsonProblem } = "config.document",
            "the document is not JSON of the allowed kind at byte {at}: {problem}";
        NotAnObject = "config.not_an_object",
            "the document is not a JSON object";
        UseFleet = "config.use_fleet",
            "the document of the whole city is that of the fleet";
        NoSuchDevice(device: Id) = "config.no_such_device",
            "there is no device {device}, or it is decommissioned";
        OtherVersion { replaces: u64, current: u64 } = "config.other_version",
            "version {replaces} would be replaced, but the current one is {current}";
    }
}
