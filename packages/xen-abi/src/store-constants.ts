/** States of a xenbus device, as they stand in its `state` key. @see io/xenbus.h, XenbusState */
export const XENBUS_STATE = {
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const;

/** Types of a store message. @see io/xs_wire.h, xsd_sockmsg_type */
export const XS_TYPE = {
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  GET_PERMS: 3,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  INTRODUCE: 8,
  RELEASE: 9,
  GET_DOMAIN_PATH: 10,
  WRITE: 11,
  MKDIR: 12,
  RM: 13,
  SET_PERMS: 14,
  WATCH_EVENT: 15,
  ERROR: 16,
  IS_DOMAIN_INTRODUCED: 17,
  RESUME: 18,
  SET_TARGET: 19,
  RESET_WATCHES: 21,
  DIRECTORY_PART: 22,
  GET_FEATURE: 23,
  SET_FEATURE: 24,
  GET_QUOTA: 25,
  SET_QUOTA: 26,
  TYPE_COUNT: 27,
  INVALID: 65535,
} as const;

/** Sizes, features, connection states and errors of the store's ring. @see io/xs_wire.h, XENSTORE_* */
export const XENSTORE = {
  RING_SIZE: 1024,
  PAYLOAD_MAX: 4096,
  ABS_PATH_MAX: 3072,
  REL_PATH_MAX: 2048,
  SERVER_FEATURE_RECONNECTION: 1,
  SERVER_FEATURE_ERROR: 2,
  SERVER_FEATURE_WATCHDEPTH: 4,
  SERVER_FEATURE_DOMID_ANY: 8,
  CONNECTED: 0,
  RECONNECT: 1,
  ERROR_NONE: 0,
  ERROR_COMM: 1,
  ERROR_RINGIDX: 2,
  ERROR_PROTO: 3,
} as const;

/** Errors the store may answer with. @see io/xs_wire.h, xsd_errors */
export const XSD_ERRORS = [
  'EINVAL',
  'EACCES',
  'EEXIST',
  'EISDIR',
  'ENOENT',
  'ENOMEM',
  'ENOSPC',
  'EIO',
  'ENOTEMPTY',
  'ENOSYS',
  'EROFS',
  'EBUSY',
  'EAGAIN',
  'EISCONN',
  'E2BIG',
  'EPERM',
] as const;

/** Values of the `protocol` key. @see io/protocols.h, XEN_IO_PROTO_ABI_* */
export const XEN_IO_PROTO_ABI = { x86_32: 'x86_32-abi', x86_64: 'x86_64-abi', arm: 'arm-abi' } as const;

/** A `XENBUS_STATE` value. */
export type XenbusState = (typeof XENBUS_STATE)[keyof typeof XENBUS_STATE];
/** The name of a state, `Connected` say. */
export type XenbusStateName = keyof typeof XENBUS_STATE;
/** An error name of the store. */
export type XsdError = (typeof XSD_ERRORS)[number];
/** The name of a message type, `WRITE` say. */
export type XsTypeName = keyof typeof XS_TYPE;

/** The name of a xenbus state, or `undefined` where the number is none. */
export function xenbusStateName(state: number): XenbusStateName | undefined {
  return (Object.keys(XENBUS_STATE) as XenbusStateName[]).find((name) => XENBUS_STATE[name] === state);
}

/** The name of a store message's type, or `undefined` where the number is none. */
export function xsTypeName(type: number): XsTypeName | undefined {
  return (Object.keys(XS_TYPE) as XsTypeName[]).find((name) => XS_TYPE[name] === type);
}
