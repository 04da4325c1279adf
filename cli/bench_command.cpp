#include "base/stopwatch.h"
#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/library_observer.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "cli/proofs.h"
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

std::string parts_text(const runtime::PartSeconds& parts) {
  const double all = parts.attention + parts.router + parts.experts + parts.head;
  return format_number("attention %.1f %%", parts.attention / all * 100) +
         format_number(", router %.1f %%", parts.router / all * 100) +
         format_number(", experts %.1f %%", parts.experts / all * 100) +
         format_number(", head %.1f %%", parts.head / all * 100);
}

}  // namespace

int bench_command(const Invocation& invocation) {
  Console& console = invocation.console;
  library::ModelRequest request;
  runtime::BenchOptions bench;
  std::string verify = "first-use";
  Options options("bench", "Measures prefill and decode speed, and compares decode with memory bandwidth.",
                  "sluice bench stories-moe -p 512 -n 32 -r 3");
  options.add_model(request.model);
  options.group("Measurement");
  options.add_integer("-p N", bench.prompt_tokens, 1, kTokensMax, "Length of the prompt in tokens");
  options.add_integer("-n N", bench.decode_tokens, 1, kTokensMax, "Number of tokens to decode");
  options.add_integer("-r N", bench.repetitions, 1, kRepetitionsMax, "Repetitions; medians are reported");
  options.group("Model, memory and threads");
  options.add_quant(request.quant);
  declare_verify(options, verify);
  runtime::SessionOptions session;
  options.add_model_memory(session.memory_bytes);
  options.add_threads(request.thread_count);
  options.parse(invocation);

  const auto isa = forced_isa();
  apply(NetworkOptions(), request.network);
  const auto path = library::prepare_model(request, LibraryAccess(invocation).context());
  const base::Stopwatch load_watch;
  const auto model = runtime::Model::open(path, model_options(path, verify, request.thread_count));
  const double load_s = load_watch.seconds();
  session.thread_count = request.thread_count;
  session.context_tokens = bench.prompt_tokens + bench.decode_tokens;
  session.isa = isa;
  const auto result = runtime::bench(model, session, bench, invocation.stop);
  console.event(
      format::Json::object({{"event", "result"},
                            {"prefill_tokens_per_s", result.prefill_tokens_per_s},
                            {"decode_tokens_per_s", result.decode_tokens_per_s},
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
                            {"peak_rss_bytes", result.peak_rss_bytes}}));
  Table table;
  table.add_row({"prefill", format_number("%.1f tokens/s", result.prefill_tokens_per_s)});
  table.add_row({"decode", format_number("%.1f tokens/s", result.decode_tokens_per_s)});
  table.add_row({"weights read a token", with_commas(result.decode_bytes_per_token) + " bytes"});
  table.add_row({"plain reads", format_number("%.2f GB/s", result.read_bandwidth_gb_per_s)});
  table.add_row({"decode against that", format_number("%.1f %%", result.decode_bandwidth_fraction * 100)});
  table.add_row({"reads in huge pages", format_number("%.2f GB/s", result.read_bandwidth_huge_gb_per_s)});
  table.add_row(
      {"decode against those", format_number("%.1f %%", result.decode_bandwidth_huge_fraction * 100)});
  table.add_row({"prefill, arithmetic", format_number("%.0f GOPS", result.prefill_gops)});
  if (result.int8_peak_gops > 0) {  // not for bf16
    table.add_row({"int8 peak", format_number("%.0f GOPS", result.int8_peak_gops)});
    table.add_row({"prefill against the peak", format_number("%.1f %%", result.prefill_peak_fraction * 100)});
  }
  table.add_row({"a prompt's time", parts_text(result.prefill_parts)});
  table.add_row({"a token's time", parts_text(result.decode_parts)});
  table.add_row({"load", format_number("%.3f s", load_s)});
  console.write(table.text());
  if (result.residency.streams) console.write("while decoding, " + residency_line(result.residency) + "\n");
  return 0;
}

}  // namespace sluice::cli
