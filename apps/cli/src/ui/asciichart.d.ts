declare module 'asciichart' {
  interface PlotConfig {
    readonly height?: number;
    readonly min?: number;
    readonly max?: number;
    readonly format?: (value: number, index: number) => string;
  }
  const asciichart: { plot(series: readonly number[] | readonly (readonly number[])[], config?: PlotConfig): string };
  export default asciichart;
}
