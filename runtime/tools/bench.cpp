// The measurements of `sluice bench`: prefill and decode of random tokens, and what the machine can do at
// most, to compare them with.
//
// The limits are measured in the same run and with as many threads, right before, after or in turns with what
// they limit: on shared machines the rate of memory changes within seconds (docs/performance.md), and a limit
// from another minute says nothing.

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <span>

#include "base/error.h"
#include "base/parallel.h"
#include "runtime/kernels/isa.h"
#include "runtime/kernels/kernels.h"
#include "runtime/runtime.h"

namespace sluice::runtime {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Plain reads of an array far larger than the caches. One load a cache line, so that memory is the limit and
/// not instructions, with prefetches as far ahead as decoding has. Without these, decoding would read faster
/// than its own limit.
class PlainReads {
 public:
  PlainReads(unsigned thread_count, bool huge_pages)
      // The array consists of whole huge pages, one more than is read. It is filled after madvise(): a page
      // gets its size when it is first written.
      : memory_(static_cast<std::uint64_t*>(std::aligned_alloc(kHugePageBytes, kBytes + kHugePageBytes))),
        pool_(thread_count) {
    if (memory_ == nullptr) throw std::bad_alloc();
    madvise(memory_.get(), kBytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    std::memset(memory_.get(), 0, kBytes);
  }

  /// Reads the next half of the array.
  void read() {
    constexpr std::size_t kTaskWords = kBytes / kParts / kTasks / sizeof(std::uint64_t);
    constexpr std::size_t kAheadWords = 4096 / sizeof(std::uint64_t);  // as runtime/kernels/prefetch.h
    constexpr std::size_t kLineWords = 64 / sizeof(std::uint64_t);
    const std::uint64_t* const half = memory_.get() + reads_++ % kParts * kTasks * kTaskWords;
    std::array<std::uint64_t, kTasks> sums;
    pool_.run(pool_.thread_count(), [](std::size_t, unsigned) {});  // wakes the workers
    const auto start = Clock::now();
    pool_.run_in_shares(kTasks, [&](std::size_t task, unsigned) {
      const std::uint64_t* const words = half + task * kTaskWords;
      std::uint64_t sum = 0;
      for (std::size_t i = 0; i < kTaskWords; i += kLineWords) {
        __builtin_prefetch(words + i + kAheadWords);
        sum += words[i];
      }
      sums[task] = sum;
    });
    seconds_ += seconds_since(start);
    // The sums must be used, or the compiler would leave the reads out.
    if (std::ranges::any_of(sums, [](std::uint64_t sum) { return sum != 0; }))
      throw base::Error(base::ErrorKind::io, "memory that was filled with zeros holds something else");
  }

  /// Bytes a second of what was read so far.
  [[nodiscard]] double rate() const { return static_cast<double>(reads_) * (kBytes / kParts) / seconds_; }

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 28;
  static constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
  static constexpr std::size_t kParts = 2;
  static constexpr std::size_t kTasks = 256;
  struct Free {
    void operator()(std::uint64_t* p) const { std::free(p); }
  };

  std::unique_ptr<std::uint64_t, Free> memory_;
  base::WorkerPool pool_;
  std::size_t reads_ = 0;
  double seconds_ = 0;
};

double measure_read_bandwidth(unsigned thread_count, bool huge_pages) {
  PlainReads reads(thread_count, huge_pages);
  for (int repetition = 0; repetition < 16; ++repetition) reads.read();
  return reads.rate();
}

/// Operations a second of all threads together, prefill's instructions on registers.
double measure_int8_peak(const Kernels& kernels, bool four_bits, unsigned threads) {
  base::WorkerPool pool(threads);
  std::vector<double> rates;
  for (int repetition = 0; repetition < 5; ++repetition) {
    std::atomic<std::uint64_t> operations = 0;
    const auto start = Clock::now();
    pool.run(64 * threads, [&](std::size_t, unsigned) {
      operations += four_bits ? kernels.peak_q4(20'000) : kernels.peak_q8(20'000);
    });
    rates.push_back(static_cast<double>(operations) / seconds_since(start));
  }
  return median(rates);
}

PartSeconds per(const PartSeconds& before, const PartSeconds& after, double count) {
  return {.attention = (after.attention - before.attention) / count,
          .router = (after.router - before.router) / count,
          .experts = (after.experts - before.experts) / count,
          .head = (after.head - before.head) / count};
}

std::vector<TokenId> random_tokens(const Model& model, std::uint64_t count) {
  // A fixed seed, so that runs can be compared: the tokens decide which experts are read.
  std::mt19937_64 random(1);
  std::vector<TokenId> tokens = model.tokenizer().encode_prompt({});
  while (tokens.size() < count)
    tokens.push_back(static_cast<TokenId>(random() % model.description().vocabulary));
  return tokens;
}

/// Adds what happened between two states of a session to `sum`; counts that are not sums are those of
/// `after`.
void add_difference(ResidencyStats& sum, const ResidencyStats& before, const ResidencyStats& after) {
  const ResidencyStats so_far = sum;
  sum = after;
  sum.hits = so_far.hits + after.hits - before.hits;
  sum.misses = so_far.misses + after.misses - before.misses;
  sum.bytes_read = so_far.bytes_read + after.bytes_read - before.bytes_read;
  sum.read_s = so_far.read_s + after.read_s - before.read_s;
  sum.stall_s = so_far.stall_s + after.stall_s - before.stall_s;
}

/// Compares decoding with plain reads, a token and a read by turns. Each takes some milliseconds, so both see
/// the same memory even where its rate changes within a second.
void decode_beside_reads(Session& session, std::span<const TokenId> tokens, unsigned thread_count,
                         BenchResult& result) {
  PlainReads reads(thread_count, /*huge_pages=*/false);
  PlainReads huge_reads(thread_count, /*huge_pages=*/true);
  double seconds = 0;
  for (const TokenId& token : tokens.subspan(1)) {
    const auto start = Clock::now();
    session.feed(std::span(&token, 1));
    seconds += seconds_since(start);
    reads.read();
    huge_reads.read();
  }
  const double rate = static_cast<double>((tokens.size() - 1) * result.decode_bytes_per_token) / seconds;
  result.read_bandwidth_gb_per_s = reads.rate() / 1e9;
  result.decode_bandwidth_fraction = rate / reads.rate();
  result.read_bandwidth_huge_gb_per_s = huge_reads.rate() / 1e9;
  result.decode_bandwidth_huge_fraction = rate / huge_reads.rate();
}

void require_something(const BenchOptions& bench) {
  if (bench.prompt_tokens != 0 && bench.decode_tokens != 0 && bench.repetitions != 0) return;
  throw base::Error(base::ErrorKind::usage,
                    "bench needs at least one prompt token, one token and one repetition");
}

std::pair<double, double> range_of(const std::vector<double>& values) {
  const auto [least, most] = std::ranges::minmax(values);
  return {least, most};
}

/// One number for each repetition; the result takes the medians.
struct Repetitions {
  std::vector<double> prefill, decode;     // tokens/s
  std::vector<double> peaks, peak_shares;  // operations/s; prefill's share of them. Not for bf16.
};

/// One repetition: prefill, between two measurements of the peak, then decode. The mean of both peaks stands
/// for the time between them, in which the CPU's clock may have changed.
void repeat(Session& session, std::span<const TokenId> prompt, std::span<const TokenId> next,
            const std::function<double()>& int8_peak, double operations_per_token, Repetitions& all,
            BenchResult& result) {
  session.reset();
  const double peak_before = int8_peak ? int8_peak() : 0;
  auto start = Clock::now();
  const PartSeconds at_start = session.part_seconds();
  session.feed(prompt);
  const PartSeconds after_prefill = session.part_seconds();
  all.prefill.push_back(static_cast<double>(prompt.size()) / seconds_since(start));
  if (int8_peak) {
    all.peaks.push_back((peak_before + int8_peak()) / 2);
    all.peak_shares.push_back(all.prefill.back() * operations_per_token / all.peaks.back());
  }
  const ResidencyStats before = session.residency_stats();
  const auto decode_tokens = static_cast<double>(next.size());
  start = Clock::now();
  for (const TokenId& token : next) session.feed({&token, 1});
  all.decode.push_back(decode_tokens / seconds_since(start));
  add_difference(result.residency, before, session.residency_stats());
  // The parts of the last repetition: they are to be compared with one another.
  result.prefill_parts = per(at_start, after_prefill, 1);
  result.decode_parts = per(after_prefill, session.part_seconds(), decode_tokens);
}

/// Plain reads, measured when the session has given back its memory.
void measure_reads_alone(unsigned thread_count, BenchResult& result) {
  const double rate = result.decode_tokens_per_s * static_cast<double>(result.decode_bytes_per_token) / 1e9;
  result.read_bandwidth_gb_per_s = measure_read_bandwidth(thread_count, false) / 1e9;
  result.decode_bandwidth_fraction = rate / result.read_bandwidth_gb_per_s;
  result.read_bandwidth_huge_gb_per_s = measure_read_bandwidth(thread_count, true) / 1e9;
  result.decode_bandwidth_huge_fraction = rate / result.read_bandwidth_huge_gb_per_s;
}

}  // namespace

BenchResult bench(const Model& model, const SessionOptions& session_options, const BenchOptions& bench,
                  const std::stop_token& stop) {
  require_something(bench);
  SessionOptions options = session_options;
  options.stop = stop;
  options.context_tokens = std::max(options.context_tokens, bench.prompt_tokens + 2 * bench.decode_tokens);
  std::optional<Session> session(std::in_place, model, options);
  const auto prompt = random_tokens(model, bench.prompt_tokens);
  const auto next = random_tokens(model, bench.decode_tokens + 1);
  const auto operations_per_token = static_cast<double>(model.prefill_operations_per_token());
  std::function<double()> int8_peak;
  if (model.quant() != "bf16") {
    int8_peak = [&] {
      // Blocks of mx4 are multiplied by the instructions of q4's.
      const bool four_bits = model.quant() == "q4" || model.quant() == "mx4";
      return measure_int8_peak(kernels_for(options.isa.value_or(detect_isa())), four_bits,
                               options.thread_count);
    };
  }

  // The first pass verifies the weights, creates primitives and brings pages in; it is not measured.
  session->feed(prompt);

  BenchResult result;
  Repetitions all;
  for (unsigned repetition = 0; repetition < bench.repetitions; ++repetition) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    repeat(*session, prompt, std::span(next).subspan(1), int8_peak, operations_per_token, all, result);
  }
  result.prefill_tokens_per_s = median(all.prefill);
  result.decode_tokens_per_s = median(all.decode);
  std::tie(result.prefill_tokens_per_s_min, result.prefill_tokens_per_s_max) = range_of(all.prefill);
  std::tie(result.decode_tokens_per_s_min, result.decode_tokens_per_s_max) = range_of(all.decode);
  result.decode_bytes_per_token = model.decode_bytes_per_token();
  result.prefill_gops = result.prefill_tokens_per_s * operations_per_token / 1e9;
  if (int8_peak) {
    result.int8_peak_gops = median(all.peaks) / 1e9;
    result.prefill_peak_fraction = median(all.peak_shares);
  }
  result.onednn = session->has_used_onednn();
  result.peak_rss_bytes = peak_rss_bytes();
  // Under a memory limit the arrays of PlainReads would take the place of experts, so reads are measured
  // after the session has given its memory back.
  const bool limited = result.residency.streams || options.memory_bytes.has_value();
  if (!limited) decode_beside_reads(*session, next, options.thread_count, result);
  session.reset();  // under a limit there is no memory for both
  if (limited) measure_reads_alone(options.thread_count, result);
  return result;
}

std::uint64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace sluice::runtime
