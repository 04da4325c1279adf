# Helpers for every room's CMakeLists.txt.

# Flags of our own code. No -march: the program runs on any x86-64-v2 machine; a kernel file that needs
# more asks for it alone, and is called only after the CPU has been asked.
# -ffp-contract=off: a multiply and an add stay two roundings unless the source says fma, so that the
# same source gives the same bits on every instruction set.
add_library(sluice_flags INTERFACE)
target_compile_options(sluice_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -ffp-contract=off)
# What convert tells one build from another by.
target_link_options(sluice_flags INTERFACE -Wl,--build-id=sha1)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
  target_compile_options(sluice_flags INTERFACE -march=x86-64-v2)
endif()
option(SLUICE_WERROR "Warnings are errors" OFF)
if(SLUICE_WERROR)
  target_compile_options(sluice_flags INTERFACE -Werror)
endif()
set(SLUICE_SANITIZE "" CACHE STRING "Sanitizers for -fsanitize=, such as address,undefined")
if(SLUICE_SANITIZE)
  target_compile_options(sluice_flags INTERFACE
    -fsanitize=${SLUICE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
    # The code that sanitizers add makes GCC 12 see uninitialized variables that are none.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(sluice_flags INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()

# sluice_room(NAME HEADERS h... SOURCES cpp... USES public... PRIVATE_USES private...)
# One static library a room, named sluice_NAME with the alias sluice::NAME. HEADERS are its front door;
# they must compile alone. What stands in PRIVATE_USES does not reach the users' include paths.
function(sluice_room name)
  cmake_parse_arguments(ROOM "" "" "HEADERS;SOURCES;USES;PRIVATE_USES" ${ARGN})
  add_library(sluice_${name} STATIC ${ROOM_SOURCES})
  add_library(sluice::${name} ALIAS sluice_${name})
  target_sources(sluice_${name} PUBLIC
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${ROOM_HEADERS})
  target_link_libraries(sluice_${name} PUBLIC ${ROOM_USES} PRIVATE sluice_flags ${ROOM_PRIVATE_USES})
endfunction()
