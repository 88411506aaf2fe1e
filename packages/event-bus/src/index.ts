export { createEventBus } from './bus.ts';
export { EVTCHN_STATUS, type EvtchnErrno, EvtchnError, type EvtchnRefusal } from './errors.ts';
export { createEventChannels } from './event-channels.ts';
export { createEventWords } from './event-words.ts';
export type { EvtchnEvents } from './events.ts';
export type {
  Bus,
  BusFault,
  BusOptions,
  DomainPorts,
  DoorbellCounts,
  EventBus,
  EventChannels,
  EventDomainOptions,
  EventPorts,
  EventWordLayout,
  PortStatus,
  Unsubscribable,
  UpcallQueue,
  WordViews,
} from './types.ts';
export { createUpcallRunner, type UpcallRunner } from './upcall-runner.ts';
