import { Observable, type Observer, type Operator, Subscriber, type Subscription } from 'rxjs';

/** Where an error of a subscriber goes. */
export type ErrorSink = (error: unknown) => void;

/**
 * An observable whose subscribers' errors go to a sink. RxJS catches what a subscriber throws and reports it through a host
 * timer; the only place to catch it earlier is the observer itself, so `subscribe` wraps it, and `lift` hands the sink on to
 * what `pipe` makes.
 */
export class GuardedObservable<T> extends Observable<T> {
  readonly #sink: ErrorSink;
  #direct = false;

  /** @param connect `direct`: nothing that the subscriber does can throw, since its observer is wrapped here and stands next. */
  constructor(sink: ErrorSink, connect?: (subscriber: Subscriber<T>, direct: boolean) => (() => void) | undefined) {
    super(
      connect &&
        ((subscriber) => {
          const direct = this.#direct;
          this.#direct = false;
          return connect(subscriber, direct);
        }),
    );
    this.#sink = sink;
  }

  override lift<R>(operator?: Operator<T, R>): Observable<R> {
    const lifted = new GuardedObservable<R>(this.#sink);
    lifted.source = this;
    lifted.operator = operator as Operator<unknown, R>;
    return lifted;
  }

  override subscribe(
    observerOrNext?: Partial<Observer<T>> | ((value: T) => void) | null,
    error?: ((error: unknown) => void) | null,
    complete?: (() => void) | null,
  ): Subscription {
    // Operators subscribe with a Subscriber of their own, which leads to an observer that was wrapped below.
    if (observerOrNext instanceof Subscriber) {
      this.#direct = false;
      return super.subscribe(observerOrNext);
    }
    const own: Partial<Observer<T>> =
      typeof observerOrNext === 'object' && observerOrNext !== null
        ? observerOrNext
        : ({ next: observerOrNext ?? undefined, error: error ?? undefined, complete: complete ?? undefined } as Partial<Observer<T>>);
    const sink = this.#sink;
    this.#direct = true;
    return super.subscribe({
      next(value) {
        try {
          own.next?.(value);
        } catch (thrown) {
          sink(thrown);
        }
      },
      error(failure) {
        if (own.error === undefined) return sink(failure);
        try {
          own.error(failure);
        } catch (thrown) {
          sink(thrown);
        }
      },
      complete() {
        try {
          own.complete?.();
        } catch (thrown) {
          sink(thrown);
        }
      },
    });
  }
}
