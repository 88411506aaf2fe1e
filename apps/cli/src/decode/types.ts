/** What does not fit together, or could not be read, in one capture. */
export interface Problem {
  /** The capture or handshake, as it is named in the output; empty for the folder as a whole. */
  readonly capture: string;
  /** The file it was found in, within the capture. */
  readonly file: string;
  readonly kind: ProblemKind;
  readonly message: string;
}

export type ProblemKind =
  /** A file that is missing, of the wrong length, or not what its name says. */
  | 'unreadable'
  /** Producer or event indices that no pair of ends can have reached. */
  | 'index'
  /** A reference that is not granted to the backend, or not in the table. */
  | 'reference'
  /** A request or response whose fields mean nothing. */
  | 'message'
  /** A ring reference whose frame is not the ring. */
  | 'ring-ref'
  /** The hypervisor's dump and the guest's table disagree. */
  | 'hypervisor'
  /** Keys of the store that contradict each other or the files. */
  | 'store'
  /** A handshake trace with lines that are none. */
  | 'trace';

export interface GrantEntryReport {
  readonly ref: number;
  /** Version 1: the entry's flags. */
  readonly flags?: number;
  /** Version 2: the flags of the entry's header. */
  readonly hdrFlags?: number;
  /** Version 2: the status word, GTF_reading and GTF_writing. */
  readonly status?: number;
  readonly type: string;
  readonly readonly: boolean;
  readonly reading: boolean;
  readonly writing: boolean;
  readonly domid: number;
  readonly frame: string;
  /** Version 2, part of a page. */
  readonly pageOffset?: number;
  readonly length?: number;
  /** Version 2, transitive. */
  readonly transDomid?: number;
  readonly transRef?: number;
  /** The hypervisor's pin word for the reference, or null when nobody maps it. */
  readonly activePin: string | null;
}

export interface SegmentReport {
  readonly gref: number;
  readonly firstSect: number;
  readonly lastSect: number;
}

export interface RequestReport {
  readonly index: number;
  readonly slot: number;
  readonly operation: number;
  readonly operationName: string;
  readonly indirectOp?: number;
  readonly indirectOpName?: string;
  readonly nrSegments: number;
  readonly handle: number;
  /** A decimal text above 2^53 - 1. */
  readonly id: number | string;
  readonly sectorNumber: string;
  /** Discard only. */
  readonly flag?: number;
  readonly nrSectors?: string;
  readonly indirectGrefs?: readonly number[];
  readonly indirectFile?: string;
  readonly indirectFiles?: readonly string[];
  readonly segments?: readonly SegmentReport[];
  readonly superseded?: true;
  /** The later request that names one of its references: so this one was answered, though its id was not used again. */
  readonly reusedBy?: number;
}

export interface ResponseReport {
  readonly index: number;
  readonly slot: number;
  readonly id: number | string;
  readonly operation: number;
  readonly operationName: string;
  readonly status: number;
}

export interface RingReport {
  readonly file: string;
  /** The virtual device, and which of its queues; null where the files do not tell. */
  readonly vbd: number | null;
  readonly queue: number;
  readonly refs: readonly number[];
  readonly frames: readonly (string | null)[];
  readonly slots: number;
  readonly reqProd: number;
  readonly reqEvent: number;
  readonly rspProd: number;
  readonly rspEvent: number;
  readonly unanswered: number;
  readonly requests: readonly RequestReport[];
  readonly responses: readonly ResponseReport[];
}

/** A request in flight under a response to another one: what can still be read of it. */
export interface HiddenReport {
  /** The ring's file, where there are several rings. */
  readonly ring?: string;
  readonly index: number;
  readonly slot: number;
  /** Inferred from the ids of the others; null where that leaves a choice. */
  readonly id: number | null;
  readonly residualSector: string;
  /** Whether what is left reads as an indirect request: then the references are those of its pages of segments. */
  readonly residualIndirect: boolean;
  readonly residualGref?: number;
  readonly residualGrefs: readonly number[];
}

export interface StoreMessageReport {
  readonly streamOffset: number;
  readonly type: number;
  readonly typeName: string;
  readonly reqId: number;
  readonly txId: number;
  readonly payload: string;
}

export interface StoreRingReport {
  readonly file: string;
  readonly ref: number;
  readonly reqCons: number;
  readonly reqProd: number;
  readonly rspCons: number;
  readonly rspProd: number;
  readonly serverFeatures: number;
  readonly connection: number;
  readonly error: number;
  readonly requests: readonly StoreMessageReport[];
  readonly responses: readonly StoreMessageReport[];
}

/** A block device as the store has it. */
export interface DeviceReport {
  readonly vbd: number;
  readonly name: string | null;
  readonly frontend: { readonly path: string; readonly state: number | null; readonly keys: Readonly<Record<string, string>> };
  readonly backend: { readonly path: string; readonly state: number | null; readonly keys: Readonly<Record<string, string>> };
}

/** A node of the store's listing, with its permissions where they were printed. */
export interface StoreNodeReport {
  readonly path: string;
  readonly value: string;
  readonly perms?: readonly string[];
}

/** One domain's grant table in the hypervisor's dump: its active entries. */
export interface DumpedTableReport {
  readonly domid: number;
  readonly version: number;
  readonly frames: number | null;
  readonly framesMax: number | null;
  readonly entries: readonly {
    readonly ref: number;
    /** The domain that maps the entry, the frame it maps, and its pin word. */
    readonly mapper: number;
    readonly mfn: string;
    readonly pin: string;
    /** The guest's entry as the hypervisor saw it; of version 2 the flags are the status word. */
    readonly domid: number;
    readonly gmfn: string;
    readonly flags: number;
  }[];
}

export interface CaptureReport {
  readonly domid: number | null;
  readonly backendDomid: number;
  readonly grantTableVersion: 1 | 2;
  readonly grantFrames: readonly { readonly file: string }[];
  readonly statusFrames?: readonly { readonly file: string }[];
  readonly grantEntryCounts: { readonly nonZero: number; readonly valid: number; readonly activeInDump: number | null };
  readonly grantEntries: readonly GrantEntryReport[];
  readonly rings: readonly RingReport[];
  readonly xenstoreRing?: StoreRingReport;
  readonly hidden?: HiddenReport | readonly HiddenReport[];
  readonly devices: readonly DeviceReport[];
  /** The store's listing, whole. */
  readonly store?: { readonly file: string; readonly nodes: readonly StoreNodeReport[] };
  /** The hypervisor's dumps, every domain's table. */
  readonly hypervisorDumps: readonly { readonly file: string; readonly tables: readonly DumpedTableReport[] }[];
  /** Pages of data that were captured, with whether an outstanding request names them. */
  readonly dataPages: readonly { readonly file: string; readonly ref: number; readonly outstanding: boolean }[];
}

export interface HandshakeEvent {
  readonly time: string;
  readonly by: HandshakeParty;
  readonly op: string;
  readonly path: string;
  readonly value?: string;
  readonly perms?: readonly string[];
  readonly inTransaction: boolean;
}

export type HandshakeParty = 'toolstack' | 'backend' | 'frontend' | 'hotplug-script';

export interface HandshakeReport {
  readonly file: string;
  readonly frontendDomid: number | null;
  /** Inferred from who writes which keys. */
  readonly connections: { readonly backendKernel: string | null; readonly frontendKernel: string | null };
  readonly events: readonly HandshakeEvent[];
}

export interface DecodeReport {
  readonly format: 'hv-capture/1';
  readonly captures: Readonly<Record<string, CaptureReport>>;
  readonly handshakes: Readonly<Record<string, HandshakeReport>>;
  readonly problems: readonly Problem[];
}
