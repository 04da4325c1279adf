// convert: turns a release into a container, or a model into an export, as --to says. What needs no weights
// is checked first, then the origin is verified and recorded, because the container's provenance is written
// along with it. Everything runs on the
// calling thread; convert and calibration use threads of their own.

#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/output.h"
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
#include "format/hub/cache_folder.h"
#include "runtime/runtime.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

/// The folder of the checkpoint.
fs::path release_folder(const fs::path& input) {
  return library::is_one_file(input) ? library::parent_of(input) : input;
}

/// NAME-QUANT.sluice, where NAME is the folder of the checkpoint: the names of checkpoint files
/// ("consolidated.00.pth") say nothing about the model, and neither does the revision of a snapshot.
std::string default_name(const fs::path& input, const std::string& quant) {
  const std::string cached = format::cached_model_name(release_folder(input));
  return (cached.empty() ? library::own_name(release_folder(input)) : cached) + "-" + quant + ".sluice";
}

void tell_skipped_keys(const std::vector<std::string>& keys, Console& console) {
  if (keys.empty()) return;
  std::string line = "skipped keys of the configuration, which do not change the result:";
  for (const std::string& key : keys) line += " " + key;
  console.note(line);
}

void tell_skipped_tensors(const std::vector<format::SkippedTensors>& skipped, Console& console) {
  if (skipped.empty()) return;
  std::string line = "left out, because they take no part in the computation:";
  const char* separator = " ";
  for (const auto& [group, tensors] : skipped) {
    line += separator + std::to_string(tensors) + " tensors '" + group + "'";
    separator = ", ";
  }
  console.note(line);
}

struct ConvertOptions {
  std::string input;
  std::string output;
  std::string quant;
  std::string to = "sluice";
  std::string calibration_text;
  bool overwrite = false;
  bool allow_damaged = false;
  bool verbose = false;
  convert::Request request;
};

void declare(Options& options, ConvertOptions& values) {
  options.add_argument("PATH", values.input,
                       "Release folder, checkpoint file, or a .sluice file to export; or a name that sluice "
                       "releases or sluice models lists");
  options.add_flag(
      "--allow-damaged", values.allow_damaged,
      "Convert a release that its torrent, manifest or checksums prove to be damaged; the result "
      "records it");
  options.add_flag("--verbose", values.verbose, "Also tell the keys of config.json that were skipped");
  options.group("Output");
  options.add_text("-o,--output FILE", values.output,
                   "File to write, or a folder to write it into; with --to safetensors a folder gets a whole "
                   "release (default: NAME-QUANT.sluice in the current folder)");
  options.add_flag("--overwrite", values.overwrite, "Replace a file that another command made");
  options.add_choice("--to FORMAT", values.to, {"sluice", "gguf", "safetensors"},
                     "Format to write: sluice, gguf or safetensors");
  options.group("Quantization");
  options.add_choice(
      "--quant TYPE", values.quant, {"q4", "q8", "bf16", "f32", "q4_0", "q8_0"},
      "Type of the weights: q4, q8 or bf16 (default: q4); for --to gguf f32, bf16, q8_0 or q4_0, "
      "for --to safetensors f32 or bf16 (default: exact)");
  options.add_text("--calibrate TEXT", values.calibration_text,
                   "Text file to run through the model first; q4 is then rounded for the inputs that each "
                   "expert sees");
  options.group("Memory and threads");
  options.add_size("--memory SIZE", values.request.memory_bytes, "Memory for the whole conversion");
  options.add_threads(values.request.thread_count);
}

/// Error{usage} for options that contradict each other.
void require_sensible(const ConvertOptions& values) {
  const auto refuse = [](const std::string& what) { throw base::Error(base::ErrorKind::usage, what); };
  if (values.to != "sluice" && !values.calibration_text.empty())
    refuse("--calibrate is for .sluice files, not for exports");
  // add_choice() takes the types of all formats, so the format decides here. run_export() refuses the rest.
  if (values.to == "sluice" && !values.quant.empty() && !convert::parse_quant(values.quant))
    refuse("a .sluice file holds q4, q8 or bf16, not " + values.quant);
}

int run_export(ConvertOptions& values, const Invocation& invocation) {
  const convert::Request& request = values.request;
  return export_command({values.input, values.output, values.quant, values.to, values.overwrite,
                         values.allow_damaged, request.memory_bytes, request.thread_count},
                        invocation);
}

/// Everything that convert reads: the release, its references and the calibration text.
base::InputFiles list_inputs(const ConvertOptions& values, const library::References& references) {
  base::InputFiles inputs = library::input_files(values.input);
  for (const std::string& file : references.found_in) inputs.add(file);
  if (!values.calibration_text.empty()) inputs.add(values.calibration_text);
  return inputs;
}

/// Says before hours of work where the result goes and how much it is.
void tell_size(const fs::path& output, const convert::Readiness& readiness, Console& console) {
  std::string text =
      output.string() + ": about " + base::to_human_bytes(readiness.output_bytes) + " to write";
  if (readiness.free_bytes) text += " (" + base::to_human_bytes(*readiness.free_bytes) + " free)";
  console.note(text);
}

/// Refuses an output that would destroy something. The container for a calibration is an output, too.
void require_outputs(const ConvertOptions& values, const base::InputFiles& inputs,
                     const CalibrationRun* calibration, base::Progress& progress,
                     const std::stop_token& stop) {
  convert::Request wanted = values.request;
  if (calibration != nullptr) {
    wanted.calibration.emplace().text_sha256 = calibration->text_sha256();
    base::require_output(calibration_container(wanted.output),
                         {.inputs = inputs,
                          .problem = [](const fs::path& path) -> std::string {
                            return convert::is_scratch(path) ? "" : "is in the way of the calibration";
                          },
                          .can_overwrite = false});
  }
  base::require_output(wanted.output, {.inputs = inputs,
                                       .problem =
                                           [&](const fs::path& path) {
                                             return convert::difference_from(path, wanted, progress, stop);
                                           },
                                       .overwrite = values.overwrite});
}

void print_result(const fs::path& output, const convert::Result& result, bool calibrated, double seconds,
                  Console& console) {
  auto json = format::Json::object({{"event", "result"},
                                    {"output", output.string()},
                                    {"bytes", result.output_bytes},
                                    {"checkpoint", result.layout.files},
                                    {"layout", result.layout.names},
                                    {"checkpoint_files", result.layout.shards},
                                    {"spare_vocabulary_rows", result.spare_rows},
                                    {"kept_tensors", result.kept_tensors},
                                    {"bits_per_weight", result.bits_per_weight},
                                    {"relative_error", result.relative_error},
                                    {"resumed_tensors", result.resumed_tensors},
                                    {"converted_tensors", result.converted_tensors},
                                    {"seconds", seconds},
                                    {"input_bytes_per_s", static_cast<double>(result.input_bytes) / seconds},
                                    {"peak_rss_bytes", runtime::peak_rss_bytes()},
                                    {"root_sha256", base::to_hex(result.root)},
                                    {"tensors_sha256", base::to_hex(result.tensors_sha256)},
                                    {"file_sha256", base::to_hex(result.file_sha256)}});
  if (calibrated) {
    format::Json experts = format::Json::array();
    for (const auto& expert : result.under_calibrated)
      experts.push_back(format::Json::object(
          {{"layer", expert.layer}, {"expert", expert.expert}, {"tokens", expert.tokens}}));
    json.set("under_calibrated", std::move(experts));
  }
  console.event(json);
  console.print(output.string() + ": " + base::to_human_bytes(result.output_bytes) + " from " +
                base::to_human_bytes(result.input_bytes) + " in " + format_number("%.1f s", seconds) + ", " +
                format_number("%.2f bits a weight", result.bits_per_weight) +
                format_number(", relative error %.4f", result.relative_error));
  if (result.resumed_tensors > 0)
    console.print("resumed " + std::to_string(result.resumed_tensors) + " of " +
                  std::to_string(result.resumed_tensors + result.converted_tensors) + " tensors");
  if (!console.quiet())
    console.print("layout: " + result.layout.names + " tensors in " + std::to_string(result.layout.shards) +
                  " " + result.layout.files + (result.layout.shards == 1 ? " file" : " files"));
  if (result.kept_tensors > 0)
    console.note(base::to_counted(result.kept_tensors, "tensor") +
                 " in MXFP4: kept exactly as released, as mx4");
  if (result.spare_rows > 0)
    console.note("the embedding has " + base::to_counted(result.spare_rows, "row") +
                 " more than the tokenizer has tokens: padding, which is kept");
  print_quality(result.quality, console);
  // Experts that the text hardly reached were rounded with less knowledge; the user may choose a better text.
  if (calibrated) print_under_calibrated(result.calibration_tokens, result.under_calibrated, console);
  console.print("root " + base::to_hex(result.root));
}

}  // namespace

int convert_command(const Invocation& invocation) {
  Console& console = invocation.console;
  ConvertOptions values;
  Options options(
      "convert",
      "Converts a released checkpoint to one .sluice file, or exports a model as GGUF or safetensors.",
      "sluice convert downloads/mixtral-8x7b-32kseqlen -o mixtral-q4.sluice\n"
      "sluice convert mixtral-q4.sluice --to gguf --quant q8 -o mixtral.gguf");
  declare(options, values);
  options.parse(invocation);

  require_sensible(values);
  convert::Request& request = values.request;
  values.input = library::find_local(values.input, LibraryAccess(invocation).context()).string();
  request.input = values.input;
  if (values.to != "sluice") return run_export(values, invocation);
  if (library::is_container_file(request.input))
    throw base::Error(base::ErrorKind::usage,
                      values.input + ": is a .sluice file already; --to gguf or --to safetensors exports it");
  // The default depends on --to, so the option has none of its own: an export keeps the values exact.
  const std::string quant = values.quant.empty() ? "q4" : values.quant;
  const std::string name = default_name(values.input, quant);
  request.output = values.output.empty() ? fs::path(name) : base::output_path(values.output, name);
  request.quant = convert::parse_quant(quant).value();  // the option allows known names only
  const LibraryAccess access(invocation);
  const auto references = library::find_references(release_folder(values.input), {}, access.context());
  ProgressLine progress(console);
  std::optional<CalibrationRun> calibration;
  if (!values.calibration_text.empty()) calibration.emplace(values.calibration_text, progress, invocation);
  require_outputs(values, list_inputs(values, references), calibration ? &*calibration : nullptr, progress,
                  invocation.stop);
  // This needs no weights, so it comes before the release is hashed.
  const auto readiness = convert::require_convertible(request);
  if (values.verbose) tell_skipped_keys(readiness.skipped_keys, console);
  tell_skipped_tensors(readiness.skipped_tensors, console);
  tell_size(request.output, readiness, console);
  const auto policy =
      values.allow_damaged ? library::OriginPolicy::allow_damaged : library::OriginPolicy::must_match;
  library::record_origin(references, policy, request, access.context());
  const base::Stopwatch watch;
  const auto result =
      calibration ? calibration->convert(request) : convert::convert(request, progress, invocation.stop);
  // An earlier calibrated conversion to this output may have been killed.
  if (!calibration) remove_calibration(request.output);
  const double seconds = watch.seconds();
  // The live line is erased before the result, which must not share its line.
  console.clear_status();
  print_result(request.output, result, calibration.has_value(), seconds, console);
  return 0;
}

}  // namespace sluice::cli
