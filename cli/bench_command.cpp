// bench: opens the model once and measures it with one matmul engine or with both in turn. Absolute speeds
// say little about another machine, so each is printed with what this machine can do: bandwidth of plain
// reads for decode, int8 arithmetic for prefill (runtime::BenchResult says how these are measured).

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/library_observer.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "cli/proofs.h"
#include "cli/quant_check.h"
#include "cli/residency.h"
#include "cli/table.h"
#include "runtime/runtime.h"

namespace sluice::cli {
namespace {

constexpr std::uint64_t kTokensMax = 1u << 24;
constexpr std::uint64_t kRepetitionsMax = 1000;

format::Json parts_json(const runtime::PartSeconds& parts) {
  return format::Json::object({{"attention", parts.attention},
                               {"router", parts.router},
                               {"experts", parts.experts},
                               {"head", parts.head}});
}

/// The parts are printed as shares, because the seconds of one repetition do not add up to the medians that
/// are printed above them.
std::string parts_text(const runtime::PartSeconds& parts) {
  const double all = parts.attention + parts.router + parts.experts + parts.head;
  return format_number("attention %.1f %%", parts.attention / all * 100) +
         format_number(", router %.1f %%", parts.router / all * 100) +
         format_number(", experts %.1f %%", parts.experts / all * 100) +
         format_number(", head %.1f %%", parts.head / all * 100);
}

std::string_view engine_name(const runtime::BenchResult& result) { return result.onednn ? "onednn" : "own"; }

format::Json result_json(const runtime::BenchResult& result, double load_s) {
  return format::Json::object({{"event", "result"},
                               {"engine", engine_name(result)},
                               {"prefill_tokens_per_s", result.prefill_tokens_per_s},
                               {"prefill_tokens_per_s_min", result.prefill_tokens_per_s_min},
                               {"prefill_tokens_per_s_max", result.prefill_tokens_per_s_max},
                               {"decode_tokens_per_s", result.decode_tokens_per_s},
                               {"decode_tokens_per_s_min", result.decode_tokens_per_s_min},
                               {"decode_tokens_per_s_max", result.decode_tokens_per_s_max},
                               {"decode_bytes_per_token", result.decode_bytes_per_token},
                               {"read_bandwidth_gb_per_s", result.read_bandwidth_gb_per_s},
                               {"decode_bandwidth_fraction", result.decode_bandwidth_fraction},
                               {"read_bandwidth_huge_gb_per_s", result.read_bandwidth_huge_gb_per_s},
                               {"decode_bandwidth_huge_fraction", result.decode_bandwidth_huge_fraction},
                               {"int8_peak_gops", result.int8_peak_gops},
                               {"prefill_gops", result.prefill_gops},
                               {"prefill_peak_fraction", result.prefill_peak_fraction},
                               {"prefill_part_s", parts_json(result.prefill_parts)},
                               {"decode_part_s", parts_json(result.decode_parts)},
                               {"load_s", load_s},
                               {"memory", residency_json(result.residency)},
                               {"peak_rss_bytes", result.peak_rss_bytes}});
}

/// One column a result.
Table result_table(std::span<const runtime::BenchResult> results, double load_s) {
  Table table;
  // A row is one measure, so that results of two engines stand side by side.
  const auto row = [&](std::string name, auto cell) {
    std::vector<std::string> cells{std::move(name)};
    for (const runtime::BenchResult& result : results) cells.push_back(cell(result));
    table.add_row(std::move(cells));
  };
  using Result = const runtime::BenchResult&;
  row("matrix products of prompts", [](Result r) { return std::string(engine_name(r)); });
  const auto with_spread = [](double median, double least, double most) {
    return format_number("%.1f tokens/s", median) + format_number(" (%.1f", least) +
           format_number(" to %.1f)", most);
  };
  row("prefill", [&](Result r) {
    return with_spread(r.prefill_tokens_per_s, r.prefill_tokens_per_s_min, r.prefill_tokens_per_s_max);
  });
  row("decode", [&](Result r) {
    return with_spread(r.decode_tokens_per_s, r.decode_tokens_per_s_min, r.decode_tokens_per_s_max);
  });
  row("weights read a token", [](Result r) { return with_commas(r.decode_bytes_per_token) + " bytes"; });
  row("plain reads", [](Result r) { return format_number("%.2f GB/s", r.read_bandwidth_gb_per_s); });
  row("decode / plain reads",
      [](Result r) { return format_number("%.1f %%", r.decode_bandwidth_fraction * 100); });
  row("plain reads, huge pages",
      [](Result r) { return format_number("%.2f GB/s", r.read_bandwidth_huge_gb_per_s); });
  row("decode / huge page reads",
      [](Result r) { return format_number("%.1f %%", r.decode_bandwidth_huge_fraction * 100); });
  row("prefill, arithmetic", [](Result r) { return format_number("%.0f GOPS", r.prefill_gops); });
  if (results.front().int8_peak_gops > 0) {  // not for bf16
    row("int8 peak", [](Result r) { return format_number("%.0f GOPS", r.int8_peak_gops); });
    row("prefill / int8 peak",
        [](Result r) { return format_number("%.1f %%", r.prefill_peak_fraction * 100); });
  }
  row("prefill: time by part", [](Result r) { return parts_text(r.prefill_parts); });
  row("decode: time by part", [](Result r) { return parts_text(r.decode_parts); });
  row("load", [&](Result) { return format_number("%.3f s", load_s); });
  return table;
}

/// "my-model-q4.sluice, q4, 2 threads, avx2; medians of 3 runs with 512 + 32 tokens (slowest to fastest)"
std::string header_line(const std::filesystem::path& path, const runtime::Model& model, unsigned thread_count,
                        const runtime::BenchOptions& bench, std::optional<runtime::Isa> isa) {
  return path.filename().string() + ", " + std::string(model.quant()) + ", " +
         base::to_counted(thread_count, "thread") + ", " +
         std::string(runtime::to_string(isa.value_or(runtime::matmul_info().isa))) + "; medians of " +
         base::to_counted(bench.repetitions, "run") + " with " + std::to_string(bench.prompt_tokens) + " + " +
         std::to_string(bench.decode_tokens) + " tokens (slowest to fastest)";
}

/// --engine decides; without it SLUICE_ENGINE does.
std::vector<runtime::MatmulEngine> chosen_engines(const std::string& name) {
  if (name.empty()) return {matmul_engine()};
  if (name == "both") return {runtime::MatmulEngine::own, runtime::MatmulEngine::onednn};
  return {runtime::parse_matmul_engine(name).value()};
}

}  // namespace

int bench_command(const Invocation& invocation) {
  Console& console = invocation.console;
  library::ModelRequest request;
  runtime::BenchOptions bench;
  std::string verify = "first-use";
  std::string engine;
  Options options("bench", "Measures prefill and decode speed, and compares decode with memory bandwidth.",
                  "sluice bench stories-moe -p 512 -n 32 -r 3");
  options.add_model(request.model);
  options.group("Measurement");
  options.add_integer("-p N", bench.prompt_tokens, 1, kTokensMax, "Length of the prompt in tokens");
  options.add_integer("-n N", bench.decode_tokens, 1, kTokensMax, "Number of tokens to decode");
  options.add_integer("-r N", bench.repetitions, 1, kRepetitionsMax, "Repetitions; medians are reported");
  options.add_choice(
      "--engine NAME", engine, {"auto", "own", "onednn", "both"},
      "What computes matrix products: own (own kernels), onednn, auto (the faster one for each "
      "product), or both, which reports own and onednn side by side (default: $SLUICE_ENGINE, or "
      "auto)");
  options.group("Model, memory and threads");
  options.add_quant(request.quant);
  declare_verify(options, verify);
  runtime::SessionOptions session;
  options.add_model_memory(session.memory_bytes);
  options.add_threads(request.thread_count);
  options.parse(invocation);

  // Wrong variables are reported before a long conversion, not after it.
  const auto isa = forced_isa();
  const auto engines = chosen_engines(engine);
  apply(NetworkOptions(), console, request.network);
  const auto path = library::prepare_model(request, LibraryAccess(invocation).context());
  require_quant(path, options, request.quant);
  // Loading includes what --verify compares when the model is opened, and no conversion.
  const base::Stopwatch load_watch;
  const auto model = runtime::Model::open(path, model_options(path, verify, request.thread_count));
  const double load_s = load_watch.seconds();
  session.thread_count = request.thread_count;
  // The context holds exactly the measured tokens: under --memory, a larger KV cache would leave less for the
  // expert cache.
  session.context_tokens = bench.prompt_tokens + bench.decode_tokens;
  session.isa = isa;
  std::vector<runtime::BenchResult> results;
  for (const runtime::MatmulEngine of_run : engines) {
    session.matmul = of_run;
    results.push_back(runtime::bench(model, session, bench, invocation.stop));
    console.event(result_json(results.back(), load_s));
  }
  console.print(header_line(path, model, request.thread_count, bench, isa));
  console.print(result_table(results, load_s));
  const runtime::ResidencyStats& residency = results.back().residency;
  warn_of_memory(residency, console);
  if (residency.streams) console.print("while decoding, " + residency_line(residency));
  return 0;
}

}  // namespace sluice::cli
