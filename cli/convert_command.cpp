#include "base/error.h"
#include "base/file.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/calibration_run.h"
#include "cli/commands.h"
#include "cli/export_command.h"
#include "cli/library_observer.h"
#include "cli/options.h"
#include "cli/progress_line.h"
#include "cli/quality_table.h"
#include "cli/report.h"
#include "cli/table.h"
#include "convert/convert.h"
#include "format/container_reader.h"
#include "runtime/runtime.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

/// Records where the input came from. A release that differs from its references is converted all the same:
/// its owner may have changed it.
void record_origin(convert::Request& request, const library::Context& context) {
  const fs::path release =
      library::is_one_file(request.input) ? library::parent_of(request.input) : request.input;
  library::record_origin(library::find_references(release, {}, context), library::OriginPolicy::may_differ,
                         request, context);
}

// NAME-QUANT.sluice in the current folder.
fs::path default_output(const fs::path& input, const std::string& quant) {
  const fs::path release = library::is_one_file(input) ? library::parent_of(input) : input;
  return library::own_name(release) + "-" + quant + ".sluice";
}

int run_export(convert::Request& request, const std::string& output, const std::string& quant,
               const std::string& to, const Invocation& invocation) {
  // A container records its origin itself.
  if (!library::is_container_file(request.input)) record_origin(request, LibraryAccess(invocation).context());
  return export_command({request.input.string(), output, quant, to, request.memory_bytes,
                         request.thread_count, request.release_name, request.licence},
                        invocation);
}

}  // namespace

int convert_command(const Invocation& invocation) {
  Console& console = invocation.console;
  std::string input;
  std::string output;
  std::string quant;
  std::string to = "sluice";
  std::string calibration_text;
  convert::Request request;
  Options options(
      "convert",
      "Converts a released checkpoint to one .sluice file, or exports a model as GGUF or safetensors.",
      "sluice convert downloads/mixtral-8x7b-32kseqlen -o mixtral-q4.sluice\n"
      "sluice convert mixtral-q4.sluice --to gguf --quant q8 -o mixtral.gguf");
  options.add_argument("PATH", input, "Release folder, checkpoint file, or a .sluice file to export");
  options.group("Output");
  options.add_text("-o,--output FILE", output,
                   "File to write; with --to safetensors a folder gets a whole release "
                   "(default: NAME-QUANT.sluice in the current folder)");
  options.add_choice("--to FORMAT", to, {"sluice", "gguf", "safetensors"},
                     "Format to write: sluice, gguf or safetensors");
  options.group("Quantization");
  options.add_choice("--quant TYPE", quant, {"q4", "q8", "bf16", "f32"},
                     "Type of the weights: q4, q8 or bf16 (default: q4); for --to also f32 (default: exact)");
  options.add_text("--calibrate TEXT", calibration_text,
                   "Text file to run through the model first; q4 is then rounded for the inputs that each "
                   "expert sees");
  options.group("Memory and threads");
  options.add_size("--memory SIZE", request.memory_bytes, "Memory for the whole conversion");
  options.add_threads(request.thread_count);
  options.parse(invocation);

  if (!fs::exists(input)) throw base::Error(base::ErrorKind::usage, input + ": does not exist");
  request.input = input;
  if (to != "sluice" && !calibration_text.empty())
    throw base::Error(base::ErrorKind::usage, "--calibrate is for .sluice files, not for exports");
  if (to != "sluice") return run_export(request, output, quant, to, invocation);
  if (quant.empty()) quant = "q4";
  if (quant == "f32")
    throw base::Error(base::ErrorKind::usage, "a .sluice file holds q4, q8 or bf16, not f32");
  request.output = output.empty() ? default_output(input, quant) : fs::path(output);
  request.quant = convert::parse_quant(quant).value();  // the option allows known names only
  record_origin(request, LibraryAccess(invocation).context());
  ProgressLine progress(console);
  const base::Stopwatch watch;
  const bool calibrated = !calibration_text.empty();
  const auto result = calibrated ? CalibrationRun(calibration_text, progress, invocation).convert(request)
                                 : convert::convert(request, progress, invocation.stop);
  if (!calibrated) remove_calibration(request.output);
  const double seconds = watch.seconds();
  console.clear_status();
  console.event(
      format::Json::object({{"event", "result"},
                            {"output", request.output.string()},
                            {"bytes", result.output_bytes},
                            {"checkpoint", result.layout.files},
                            {"layout", result.layout.names},
                            {"checkpoint_files", result.layout.shards},
                            {"bits_per_weight", result.bits_per_weight},
                            {"relative_error", result.relative_error},
                            {"resumed_tensors", result.resumed_tensors},
                            {"converted_tensors", result.converted_tensors},
                            {"seconds", seconds},
                            {"input_bytes_per_s", static_cast<double>(result.input_bytes) / seconds},
                            {"peak_rss_bytes", runtime::peak_rss_bytes()},
                            {"root_sha256", base::to_hex(result.root)},
                            {"file_sha256", base::to_hex(result.file_sha256)}}));
  console.print(request.output.string() + ": " + base::to_human_bytes(result.output_bytes) + " from " +
                base::to_human_bytes(result.input_bytes) + " in " + format_number("%.1f s", seconds) + ", " +
                format_number("%.2f bits a weight", result.bits_per_weight) +
                format_number(", relative error %.4f", result.relative_error));
  if (result.resumed_tensors > 0)
    console.print("resumed " + std::to_string(result.resumed_tensors) + " of " +
                  std::to_string(result.resumed_tensors + result.converted_tensors) + " tensors");
  if (!console.quiet())
    console.print("layout: " + result.layout.names + " tensors in " + std::to_string(result.layout.shards) +
                  " " + result.layout.files + (result.layout.shards == 1 ? " file" : " files"));
  print_quality(result.quality, console);
  if (calibrated) print_under_calibrated(result.calibration_tokens, result.under_calibrated, console);
  console.print("root " + base::to_hex(result.root));
  return 0;
}

}  // namespace sluice::cli
