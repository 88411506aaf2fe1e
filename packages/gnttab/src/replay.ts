export { ReplayError, type ReplayFault } from './replay-error.ts';
export { type Recording, type ReplayNeeds, type ReplayResult, replay, subsystems } from './replayer.ts';
