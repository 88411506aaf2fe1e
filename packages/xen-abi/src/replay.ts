export { type ReplayNeeds, type ReplayResult, replay, subsystems } from './replay/replay.ts';
