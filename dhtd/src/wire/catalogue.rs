//! The catalogue: between peers, and as the value of its record.

use bytes::Bytes;
use dht_core::{
    catalogue::{Catalogue, Keyspace},
    record::KeyspaceId,
};
use dhtd_proto::v1;
use prost::Message as _;

use super::{Malformed, decode_mode, mode};

/// A keyspace as clients and peers see it.
#[must_use]
pub fn keyspace(keyspace: &Keyspace) -> v1::Keyspace {
    v1::Keyspace { name: keyspace.name.to_string(), id: keyspace.id.0, mode: mode(keyspace.mode).into() }
}

/// A catalogue on its way to another peer.
#[must_use]
pub fn catalogue(catalogue: &Catalogue) -> v1::Catalogue {
    v1::Catalogue {
        revision: catalogue.revision,
        replicas: u32::try_from(catalogue.replicas()).unwrap_or(u32::MAX),
        next_keyspace: catalogue.next(),
        keyspaces: catalogue.keyspaces().map(keyspace).collect(),
    }
}

/// Reads a catalogue.
///
/// # Errors
/// If nobody can have made it.
pub fn decode_catalogue(catalogue: v1::Catalogue) -> Result<Catalogue, Malformed> {
    let v1::Catalogue { revision, replicas, next_keyspace, keyspaces } = catalogue;
    let keyspaces: Vec<Keyspace> = keyspaces.iter().map(decode_keyspace).collect::<Result<_, _>>()?;
    let replicas = usize::try_from(replicas).unwrap_or(0);
    Catalogue::assemble(revision, replicas, next_keyspace, keyspaces).map_err(|bad| Malformed(bad.0))
}

/// The value of the catalogue's record. The revision is the record's own.
#[must_use]
pub fn catalogue_value(catalogue: &Catalogue) -> Bytes {
    v1::Catalogue { revision: 0, ..self::catalogue(catalogue) }.encode_to_vec().into()
}

/// Reads the catalogue's record.
///
/// # Errors
/// If it holds something else.
pub fn decode_catalogue_value(revision: u64, value: Bytes) -> Result<Catalogue, Malformed> {
    let catalogue =
        v1::Catalogue::decode(value).map_err(|_| Malformed("the catalogue's record holds something else"))?;
    decode_catalogue(v1::Catalogue { revision, ..catalogue })
}

fn decode_keyspace(keyspace: &v1::Keyspace) -> Result<Keyspace, Malformed> {
    let (id, name) = (KeyspaceId(keyspace.id), keyspace.name.as_str().into());
    Ok(Keyspace { id, name, mode: decode_mode(keyspace.mode())? })
}

#[cfg(test)]
mod tests {
    use dht_core::record::Mode;

    use super::*;

    fn made() -> Catalogue {
        let default = Keyspace { id: KeyspaceId::DEFAULT, name: "default".into(), mode: Mode::Eventual };
        let mut catalogue = Catalogue::assemble(9, 3, 2, [default]).expect("it can be made");
        catalogue.create("gone", Mode::Chain).expect("the name is free");
        catalogue.create("users", Mode::Chain).expect("the name is free");
        catalogue.remove("gone").expect("it is there");
        catalogue
    }

    #[test]
    fn a_catalogue_reads_back_from_a_message_and_from_its_record() {
        assert_eq!(decode_catalogue(catalogue(&made())), Ok(made()));
        let later = decode_catalogue_value(12, catalogue_value(&made()));
        let mut expected = made();
        expected.revision = 12;
        assert_eq!(later, Ok(expected));
    }

    #[test]
    fn what_is_no_catalogue_is_refused() {
        assert!(decode_catalogue_value(1, Bytes::from_static(b"\xff\xff")).is_err());
        assert!(decode_catalogue_value(1, Bytes::new()).is_err(), "no copies, no keyspace");
        let mut without_mode = catalogue(&made());
        without_mode.keyspaces[0].mode = 0;
        assert!(decode_catalogue(without_mode).is_err());
        let mut twice = catalogue(&made());
        twice.keyspaces.push(twice.keyspaces[0].clone());
        assert!(decode_catalogue(twice).is_err());
    }
}
