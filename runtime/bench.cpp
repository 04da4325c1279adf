#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <random>

#include "base/error.h"
#include "base/parallel.h"
#include "runtime/isa.h"
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

/// Bytes a second that `threads` threads read from an array far larger than the caches: one load a line, so that
/// memory is the limit and not instructions, and asking ahead as decoding does. Else it was decoding that read
/// faster.
double measure_read_bandwidth(unsigned threads, bool huge_pages) {
  constexpr std::size_t kBytes = std::size_t{1} << 29;
  constexpr std::size_t kWords = kBytes / sizeof(std::uint64_t);
  constexpr std::size_t kTasks = 64;
  constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
  constexpr std::size_t kAheadWords = 4096 / sizeof(std::uint64_t);  // as runtime/kernels/prefetch.h
  constexpr std::size_t kLineWords = 64 / sizeof(std::uint64_t);
  // Of whole huge pages, one more than is read; filled after the kernel has been told which pages to take.
  struct Free {
    void operator()(std::uint64_t* p) const { std::free(p); }
  };
  const std::unique_ptr<std::uint64_t, Free> memory(
      static_cast<std::uint64_t*>(std::aligned_alloc(kHugePageBytes, kBytes + kHugePageBytes)));
  if (memory == nullptr) throw std::bad_alloc();
  std::uint64_t* words = memory.get();
  madvise(words, kBytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  std::memset(words, 0, kBytes);
  base::WorkerPool pool(threads);
  std::vector<std::uint64_t> sums(kTasks);
  std::vector<double> rates;
  for (int repetition = 0; repetition < 5; ++repetition) {
    const auto start = Clock::now();
    pool.run(kTasks, [&](std::size_t task, unsigned) {
      std::uint64_t sum = 0;
      const std::size_t first = task * (kWords / kTasks);
      for (std::size_t i = first; i < first + kWords / kTasks; i += kLineWords) {
        __builtin_prefetch(words + i + kAheadWords);
        sum += words[i];
      }
      sums[task] = sum;
    });
    rates.push_back(static_cast<double>(kBytes) / seconds_since(start));
  }
  // The sums must be used, or the reads would be left out.
  if (std::ranges::any_of(sums, [](std::uint64_t sum) { return sum != 0; }))
    throw base::Error(base::ErrorKind::io, "memory that was filled with zeros holds something else");
  return median(rates);
}

/// Operations a second of all threads together, prefill's instructions on registers.
double measure_int8_peak(const Kernels& kernels, bool q4, unsigned threads) {
  base::WorkerPool pool(threads);
  std::vector<double> rates;
  for (int repetition = 0; repetition < 5; ++repetition) {
    std::atomic<std::uint64_t> operations = 0;
    const auto start = Clock::now();
    pool.run(64 * threads, [&](std::size_t, unsigned) {
      operations += q4 ? kernels.peak_q4(20'000) : kernels.peak_q8(20'000);
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
  std::mt19937_64 random(1);
  std::vector<TokenId> tokens{model.tokenizer().bos()};
  while (tokens.size() < count) tokens.push_back(static_cast<TokenId>(random() % model.params().vocab_size));
  return tokens;
}

void add_difference(ResidencyStats& sum, const ResidencyStats& before, const ResidencyStats& after) {
  const ResidencyStats so_far = sum;
  sum = after;
  sum.hits = so_far.hits + after.hits - before.hits;
  sum.misses = so_far.misses + after.misses - before.misses;
  sum.bytes_read = so_far.bytes_read + after.bytes_read - before.bytes_read;
  sum.read_s = so_far.read_s + after.read_s - before.read_s;
  sum.stall_s = so_far.stall_s + after.stall_s - before.stall_s;
}

}  // namespace

BenchResult bench(const Model& model, const SessionOptions& session_options, const BenchOptions& bench,
                  const std::stop_token& stop) {
  if (bench.prompt_tokens == 0 || bench.decode_tokens == 0 || bench.repetitions == 0)
    throw base::Error(base::ErrorKind::usage,
                      "bench needs at least one prompt token, one token and one repetition");
  SessionOptions options = session_options;
  options.stop = stop;
  options.context_tokens = std::max(options.context_tokens, bench.prompt_tokens + bench.decode_tokens);
  std::optional<Session> holder(std::in_place, model, options);
  Session& session = *holder;
  const auto prompt = random_tokens(model, bench.prompt_tokens);
  const auto next = random_tokens(model, bench.decode_tokens + 1);

  // The first pass proves the weights, creates primitives and brings pages in; it is not measured.
  session.feed(prompt);

  BenchResult result;
  std::vector<double> prefill;
  std::vector<double> decode;
  for (unsigned repetition = 0; repetition < bench.repetitions; ++repetition) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    session.reset();
    auto start = Clock::now();
    const PartSeconds at_start = session.part_seconds();
    session.feed(prompt);
    const PartSeconds after_prefill = session.part_seconds();
    prefill.push_back(static_cast<double>(prompt.size()) / seconds_since(start));
    const ResidencyStats before = session.residency_stats();
    start = Clock::now();
    for (std::uint64_t i = 0; i < bench.decode_tokens; ++i) session.feed(std::span(&next[i + 1], 1));
    decode.push_back(static_cast<double>(bench.decode_tokens) / seconds_since(start));
    add_difference(result.residency, before, session.residency_stats());
    // Of the last repetition: parts are to be compared with one another.
    result.prefill_parts = per(at_start, after_prefill, 1);
    result.decode_parts =
        per(after_prefill, session.part_seconds(), static_cast<double>(bench.decode_tokens));
  }

  result.prefill_tokens_per_s = median(prefill);
  result.decode_tokens_per_s = median(decode);
  result.decode_bytes_per_token = model.decode_bytes_per_token();
  result.peak_rss_bytes = peak_rss_bytes();
  holder.reset();  // under a limit there is no memory for both
  const double bandwidth = measure_read_bandwidth(options.thread_count, /*huge_pages=*/false);
  result.read_bandwidth_gb_per_s = bandwidth / 1e9;
  result.decode_bandwidth_fraction =
      result.decode_tokens_per_s * static_cast<double>(result.decode_bytes_per_token) / bandwidth;
  result.read_bandwidth_huge_gb_per_s =
      measure_read_bandwidth(options.thread_count, /*huge_pages=*/true) / 1e9;
  result.prefill_gops =
      result.prefill_tokens_per_s * static_cast<double>(model.prefill_operations_per_token()) / 1e9;
  if (model.quant() == "bf16") return result;
  result.int8_peak_gops = measure_int8_peak(kernels_for(options.isa.value_or(detect_isa())),
                                            model.quant() == "q4", options.thread_count) /
                          1e9;
  result.prefill_peak_fraction = result.prefill_gops / result.int8_peak_gops;
  return result;
}

std::uint64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace sluice::runtime
