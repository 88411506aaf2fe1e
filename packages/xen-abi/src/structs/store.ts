import type { Struct, StructLayout } from './codec.ts';

/** Fields of `xsd_sockmsg`. */
export interface XsdSockmsgFields {
  type: number;
  req_id: number;
  tx_id: number;
  len: number;
}

const XSD_SOCKMSG_LAYOUT: StructLayout = {
  size: 16,
  align: 4,
  fields: { type: ['u32', 0], req_id: ['u32', 4], tx_id: ['u32', 8], len: ['u32', 12] },
};

/** Header of a store message. @see io/xs_wire.h */
export const XSD_SOCKMSG: Struct<XsdSockmsgFields> = {
  name: 'xsd_sockmsg',
  layouts: { x86_64: XSD_SOCKMSG_LAYOUT, x86_32: XSD_SOCKMSG_LAYOUT, arm64: XSD_SOCKMSG_LAYOUT },
};

/** Fields of `xenstore_domain_interface`. */
export interface XenstoreDomainInterfaceFields {
  req: Uint8Array;
  rsp: Uint8Array;
  req_cons: number;
  req_prod: number;
  rsp_cons: number;
  rsp_prod: number;
  server_features: number;
  connection: number;
  error: number;
  evtchn_port: number;
}

const XENSTORE_DOMAIN_INTERFACE_LAYOUT: StructLayout = {
  size: 2080,
  align: 4,
  fields: {
    req: ['u8', 0, 1024],
    rsp: ['u8', 1024, 1024],
    req_cons: ['u32', 2048],
    req_prod: ['u32', 2052],
    rsp_cons: ['u32', 2056],
    rsp_prod: ['u32', 2060],
    server_features: ['u32', 2064],
    connection: ['u32', 2068],
    error: ['u32', 2072],
    evtchn_port: ['u32', 2076],
  },
};

/** The store's ring page. @see io/xs_wire.h */
export const XENSTORE_DOMAIN_INTERFACE: Struct<XenstoreDomainInterfaceFields> = {
  name: 'xenstore_domain_interface',
  layouts: { x86_64: XENSTORE_DOMAIN_INTERFACE_LAYOUT, x86_32: XENSTORE_DOMAIN_INTERFACE_LAYOUT, arm64: XENSTORE_DOMAIN_INTERFACE_LAYOUT },
};
