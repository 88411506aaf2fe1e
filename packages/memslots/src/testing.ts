export { type SlotsFixture, slotsFixture } from './testing/fixture.ts';
export { type Fields, Model, type ModelConfig } from './testing/model.ts';
export { PlainSlots } from './testing/plain.ts';
export { generateRecording, type Random, type RecordingOptions, seeded } from './testing/recordings.ts';
export { memslotsSuite, type SuiteNeeds } from './testing/suite.ts';
