#include "base/error.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/options.h"
#include "cli/progress_line.h"
#include "cli/proofs.h"
#include "cli/table.h"
#include "library/model_source.h"
#include "runtime/runtime.h"

namespace sluice::cli {
namespace {

using format::Json;

constexpr std::uint64_t kTextBytesMax = 1u << 30;

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

void print_for_people(const runtime::Evaluation& evaluation, Console& console) {
  Table table;
  table.add_row({"perplexity", format_number("%.4f", evaluation.perplexity)});
  table.add_row({"nats a token", format_number("%.5f", evaluation.nll)});
  table.add_row({"tokens", with_commas(evaluation.tokens)});
  const auto add = [&](const char* name, const std::optional<double>& value, const char* format,
                       double factor) {
    if (value) table.add_row({name, format_number(format, *value * factor)});
  };
  add("KL divergence", evaluation.kl_divergence, "%.5f", 1);
  add("same best token", evaluation.top1_agreement, "%.2f %%", 100);
  add("same experts", evaluation.routing_agreement, "%.2f %%", 100);
  console.write(table.text());
}

}  // namespace

int eval_command(const Invocation& invocation) {
  Console& console = invocation.console;
  ModelRequest request;
  std::string text_file;
  std::string reference_model;
  std::string verify = "first-use";
  std::string kv;
  runtime::SessionOptions session;
  session.context_tokens = 256;
  Options options("eval", "Perplexity of a text; with a reference, how far the model is from it.",
                  "sluice eval model-q4.sluice valid.txt --reference model-bf16.sluice");
  auto& app = options.app();
  app.add_option("MODEL", request.model,
                 ".sluice file, release folder, release name, magnet link or URL of a .torrent")
      ->required();
  app.add_option("TEXT", text_file, "File with the text")->required();
  app.add_option("--context", session.context_tokens, "Tokens of each chunk, BOS included (default: 256)")
      ->check(CLI::Range(std::uint64_t{2}, std::uint64_t{1} << 24));
  app.add_option("--reference", reference_model,
                 "Model to compare with; one that is not a .sluice file is converted to bf16");
  options.add_kv(kv);
  options.add_threads(request.thread_count);
  options.add_quant(request.quant, "When the model is to be converted first: q4 (default), q8 or bf16");
  declare_verify(options, verify);
  options.parse(invocation);

  session.isa = forced_isa();
  session.kv = runtime::parse_kv_type(kv);
  session.thread_count = request.thread_count;
  const std::string text = base::read_text_file(text_file, kTextBytesMax);
  const auto open = [&](const ModelRequest& wanted) {
    const auto path = prepare_model(wanted, console, invocation.stop);
    return runtime::Model::open(path, model_options(path, verify, request.thread_count));
  };
  const auto model = open(request);
  std::optional<runtime::Model> reference;
  if (!reference_model.empty()) {
    const ModelRequest reference_request{reference_model, "bf16", request.thread_count, {}};
    reference.emplace(open(reference_request));
  }
  ProgressLine progress(console);
  std::uint64_t total = 0;
  const auto on_progress = [&](std::uint64_t tokens_done, std::uint64_t tokens_total) {
    if (total != tokens_total) progress.begin("evaluating", total = tokens_total);
    progress.set_done(tokens_done);
  };
  const auto evaluation = runtime::evaluate(model, reference ? &*reference : nullptr, text, session,
                                            on_progress, invocation.stop);
  console.clear_status();
  console.event(
      Json::object({{"event", "result"},
                    {"perplexity", evaluation.perplexity},
                    {"nll", evaluation.nll},
                    {"tokens", evaluation.tokens},
                    {"kl_divergence", or_null(evaluation.kl_divergence)},
                    {"top1_agreement", or_null(evaluation.top1_agreement)},
                    {"routing_agreement", or_null(evaluation.routing_agreement)},
                    {"routing_agreement_by_layer", Json::array_of(evaluation.routing_agreement_by_layer)},
                    {"peak_rss_bytes", runtime::peak_rss_bytes()}}));
  print_for_people(evaluation, console);
  return 0;
}

}  // namespace sluice::cli
