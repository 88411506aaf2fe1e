export { type Consback, type ConsbackDeps, consback } from './consback.ts';
export { type Consfront, type ConsfrontDeps, consfront } from './consfront.ts';
export { INPUT, OUTPUT, Reader, type Stream, Writer } from './ring.ts';
export { addConsole, type Store, type ToolstackStore } from './store.ts';
