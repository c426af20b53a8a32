//! Services and their names: the service description table (ETSI EN 300 468, section 5.2.3).

use super::text;
use crate::proto::mpegts::codec::Descriptors;
use crate::proto::mpegts::psi::{MAX_PROGRAMS, Section};

/// Sections of the table that are followed.
const MAX_SECTIONS: usize = 8;

/// A service, by the program that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The number of its program.
    pub program: u16,
    /// ETSI EN 300 468, table 87: 0x01 television, 0x02 radio, 0x19 television in H.264, 0x1F in HEVC.
    pub service_type: u8,
    /// Its name; up to 64 characters.
    pub name: String,
    /// Who provides it; up to 64 characters.
    pub provider: String,
    section: u8,
}

/// The services of a transport stream; at most [`MAX_PROGRAMS`].
#[derive(Debug, Clone, Default)]
pub(super) struct Services {
    sections: [Option<u32>; MAX_SECTIONS],
    services: Vec<Service>,
}

impl Services {
    pub(super) fn as_slice(&self) -> &[Service] {
        &self.services
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let text = |service: &Service| service.name.capacity() + service.provider.capacity();
        self.services.capacity() * size_of::<Service>() + self.services.iter().map(text).sum::<usize>()
    }

    /// Take a right section. The services before, if any is new, gone, or named otherwise.
    pub(super) fn handle(&mut self, section: &Section<'_>) -> Option<Vec<Service>> {
        let last = usize::from(section.last) + 1;
        let obsolete = self.sections.iter().skip(last).any(Option::is_some);
        let known = self.sections.get_mut(usize::from(section.number))?;
        if *known == Some(section.crc) && !obsolete {
            return None;
        }
        *known = Some(section.crc);
        self.sections.iter_mut().skip(last).for_each(|crc| *crc = None);
        let before = self.services.clone();
        self.services.retain(|service| service.section != section.number && usize::from(service.section) < last);
        // original_network_id and a reserved byte go before.
        let mut entries = section.body.get(3..).unwrap_or_default();
        while let Some((&[a, b, _, c, d], rest)) = entries.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes([c & 0x0F, d]));
            let Some((descriptors, next)) = rest.split_at_checked(length) else { break };
            entries = next;
            let program = u16::from_be_bytes([a, b]);
            self.services.retain(|service| service.program != program);
            let named = Descriptors(descriptors).find(|(tag, _)| *tag == 0x48);
            if let Some(service) = named.and_then(|(_, content)| service(program, content, section.number))
                && self.services.len() < MAX_PROGRAMS
            {
                self.services.push(service);
            }
        }
        Some(before)
    }
}

/// The service descriptor (section 6.2.33).
fn service(program: u16, content: &[u8], section: u8) -> Option<Service> {
    let (&[service_type, provider_len], rest) = content.split_first_chunk()?;
    let (provider, rest) = rest.split_at_checked(usize::from(provider_len))?;
    let (&name_len, rest) = rest.split_first()?;
    let name = rest.get(..usize::from(name_len))?;
    Some(Service { program, service_type, name: text::decode(name), provider: text::decode(provider), section })
}
