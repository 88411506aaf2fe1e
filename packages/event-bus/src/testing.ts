export type { SuiteTools } from './testing/check.ts';
export { type EventPortsFixture, eventPortsSuite } from './testing/event-ports-suite.ts';
export { type PluginFixture, pluginSuite } from './testing/plugin-suite.ts';
export { type BusRecorder, type RecordedFact, recordBus } from './testing/recorder.ts';
