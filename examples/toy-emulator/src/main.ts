import { Bus, ROM, VIDEO } from './bus.ts';
import { Cpu } from './cpu.ts';
import { demo } from './demo.ts';
import { Display } from './display.ts';

const bus = new Bus(demo(VIDEO));
const cpu = new Cpu(bus, ROM);
const display = new Display(bus);
display.refresh();

const steps = cpu.run(100_000);
console.log(bus.memslots.describe());
console.log(`${steps} instructions, ${bus.lookups} lookups of an address; the guest says: ${String.fromCharCode(...bus.printed).trim()}`);
console.log(`pages of video memory that changed: ${display.refresh().join(', ')}`);
console.log(display.text());
