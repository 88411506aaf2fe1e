/**
 * For tests of users: an allocator on memory with a ledger and with faults at chosen points, and the cases that every page table and
 * every page allocator must pass. Needs no test tool: a case throws when it does not hold.
 */

export { type InterfaceCase, pageAllocatorCases, pageTableCases } from './testing-cases.ts';
export { type FaultPoint, type Ledger, type VmapFixture, type VmapFixtureOptions, vmapFixture } from './testing-fixture.ts';
export { createScanModel, type ScanModel } from './testing-model.ts';
