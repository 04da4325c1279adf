// convert --to gguf and --to safetensors. The options were declared and checked by convert; types that only
// one format has are refused here. convert::export_model() uses threads of its own.

#include "cli/export_command.h"

#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/output.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/library_observer.h"
#include "cli/progress_line.h"
#include "cli/table.h"
#include "convert/convert.h"
#include "library/library.h"
#include "runtime/runtime.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using convert::ExportFormat;
using convert::ExportType;
using format::Json;

/// No type means the values exactly as the input has them. q8 and q4 exist in GGUF only (Q8_0, Q4_0), because
/// safetensors has no blocks.
std::optional<ExportType> parse_type(const ExportArguments& arguments) {
  const std::string& text = arguments.quant;
  if (text.empty()) return std::nullopt;
  if (text == "f32") return ExportType::f32;
  if (text == "bf16") return ExportType::bf16;
  const bool gguf = arguments.to == "gguf";
  if (gguf && (text == "q8" || text == "q8_0")) return ExportType::q8_0;
  if (gguf && (text == "q4" || text == "q4_0")) return ExportType::q4_0;
  throw base::Error(base::ErrorKind::usage, "--to " + arguments.to + " writes " +
                                                (gguf ? "f32, bf16, q8_0 or q4_0" : "f32 or bf16") +
                                                ", not " + text);
}

/// The name of the release folder, or of the .sluice file without its extension.
std::string input_name(const fs::path& input) {
  if (!library::is_one_file(input)) return library::own_name(input);
  return input.extension() == ".sluice" ? input.stem().string()
                                        : library::own_name(library::parent_of(input));
}

void set_output(const ExportArguments& arguments, convert::ExportRequest& request) {
  const std::string name = input_name(request.input);
  if (request.format == ExportFormat::gguf) {
    const std::string type = request.type ? "-" + std::string(convert::to_string(*request.type)) : "";
    const std::string file = name + type + ".gguf";
    request.output = arguments.output.empty() ? fs::path(file) : base::output_path(arguments.output, file);
    return;
  }
  // A folder gets the other files of a release, too; a file gets the weights alone. A slash at the end names
  // a folder that does not exist yet.
  request.output_is_folder =
      arguments.output.empty() || arguments.output.ends_with('/') || fs::is_directory(arguments.output);
  request.output = arguments.output.empty() ? name + "-safetensors" : arguments.output;
  if (request.output_is_folder && !request.output.has_filename())
    request.output = request.output.parent_path();  // without the slash
}

/// Refuses outputs that would destroy something. Exported files do not say what they were made of, so each
/// that is there already counts as somebody else's.
void require_outputs(const ExportArguments& arguments, const convert::ExportRequest& request,
                     const library::References& references) {
  base::InputFiles inputs = library::input_files(request.input);
  for (const std::string& file : references.found_in) inputs.add(file);
  if (request.output_is_folder) convert::require_export_folder(request);
  // A folder that does not exist yet has no files either.
  if (request.output_is_folder && !fs::exists(request.output)) return;
  for (const fs::path& path : convert::exported_paths(request))
    base::require_output(path, {.inputs = inputs, .overwrite = arguments.overwrite});
}

/// Verifies the release, and takes its name and licence.
void take_origin(const library::References& references, bool allow_damaged, const library::Context& context,
                 convert::ExportRequest& request) {
  convert::Request origin;
  origin.input = request.input;
  origin.thread_count = request.thread_count;
  const auto policy =
      allow_damaged ? library::OriginPolicy::allow_damaged : library::OriginPolicy::must_match;
  library::record_origin(references, policy, origin, context);
  request.name = origin.release_name;
  request.licence = origin.licence;
}

void print_result(const ExportArguments& arguments, const convert::ExportRequest& request,
                  const convert::ExportResult& result, double seconds, Console& console) {
  Json files = Json::array();
  const auto add_file = [&](const convert::ExportedFile& file) {
    // Each file comes with its SHA-256, because exported formats hold no digests of their own.
    files.push_back(Json::object(
        {{"path", file.path.string()}, {"bytes", file.bytes}, {"sha256", base::to_hex(file.sha256)}}));
  };
  add_file(result.weights);
  for (const auto& file : result.others) add_file(file);
  console.event(Json::object({{"event", "result"},
                              {"output", request.output.string()},
                              {"format", arguments.to},
                              {"type", convert::to_string(result.type)},
                              {"bytes", result.weights.bytes},
                              {"tensors", result.tensors},
                              {"parameters", result.value_count},
                              {"seconds", seconds},
                              {"output_bytes_per_s", static_cast<double>(result.weights.bytes) / seconds},
                              {"peak_rss_bytes", runtime::peak_rss_bytes()},
                              {"file_sha256", base::to_hex(result.weights.sha256)},
                              {"files", std::move(files)}}));
  console.print(request.output.string() + ": " + base::to_counted(result.tensors, "tensor") + ", " +
                std::string(convert::to_string(result.type)) + ", " +
                base::to_human_bytes(result.weights.bytes) + " in " + format_number("%.1f s", seconds));
  console.print("sha256 " + base::to_hex(result.weights.sha256));
}

}  // namespace

int export_command(const ExportArguments& arguments, const Invocation& invocation) {
  convert::ExportRequest request;
  request.input = arguments.input;
  request.format = arguments.to == "gguf" ? ExportFormat::gguf : ExportFormat::safetensors;
  request.type = parse_type(arguments);
  request.memory_bytes = arguments.memory_bytes;
  request.thread_count = arguments.thread_count;
  set_output(arguments, request);
  const LibraryAccess access(invocation);
  // A container records its origin itself.
  const bool is_release = !library::is_container_file(request.input);
  library::References references;
  if (is_release)
    references = library::find_references(
        library::is_one_file(request.input) ? library::parent_of(request.input) : request.input, {},
        access.context());
  require_outputs(arguments, request, references);
  if (is_release) take_origin(references, arguments.allow_damaged, access.context(), request);

  ProgressLine progress(invocation.console);
  const base::Stopwatch watch;
  const auto result = convert::export_model(request, progress, invocation.stop);
  const double seconds = watch.seconds();
  invocation.console.clear_status();
  print_result(arguments, request, result, seconds, invocation.console);
  return 0;
}

}  // namespace sluice::cli
