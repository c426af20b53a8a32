//! Who owns which port, group and interface.
