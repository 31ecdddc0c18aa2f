/* How long opening takes: opening FILE. Writes a container of 500 MB whose weights are a hole in the file, opens it often, and
 * removes it. The header is that of 200 tensors `int8/row/sym` of 2500 x 1024. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <time.h>
#include <unistd.h>

enum { TENSORS = 200, ROWS = 2500, COLS = 1024, TURNS = 51 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static long long write_file(const char *path) {
    enum { ROOM = 1 << 20 };
    char *header = malloc(ROOM), zero[65];
    CHECK(header);
    memset(zero, '0', 64), zero[64] = 0;
    size_t len = 0;
#define ADD(...) len += (size_t)snprintf(header + len, ROOM - len, __VA_ARGS__)
    ADD("{\"__metadata__\":{\"niwaki\":\"{\\\"container\\\":[1,0],\\\"digest\\\":\\\"%s\\\",\\\"lineage\\\":{\\\"parents\\\":[],"
        "\\\"source\\\":null},\\\"patches\\\":[],\\\"recipe\\\":null,\\\"recipe_digest\\\":null,\\\"report\\\":{},"
        "\\\"source_metadata\\\":{},\\\"tensors\\\":{", zero);
    for (int at = 0; at < TENSORS; at++) {
        ADD("%s\\\"w%04d\\\":{\\\"digest\\\":\\\"%s\\\",\\\"dtype\\\":\\\"F32\\\",\\\"parts\\\":{\\\"codes\\\":\\\"%s\\\","
            "\\\"scales\\\":\\\"%s\\\"},\\\"scheme\\\":\\\"int8/row/sym\\\",\\\"shape\\\":[%d,%d],\\\"source_digest\\\":null}",
            at ? "," : "", at, zero, zero, zero, ROWS, COLS);
    }
    ADD("}}\"}");
    long long byte = 0;
    for (int at = 0; at < TENSORS; at++) {
        long long codes = byte + (long long)ROWS * COLS, scales = codes + ROWS * 4LL;
        ADD(",\"w%04d.codes\":{\"dtype\":\"U8\",\"shape\":[%d,%d],\"data_offsets\":[%lld,%lld]}", at, ROWS, COLS, byte, codes);
        ADD(",\"w%04d.scales\":{\"dtype\":\"F32\",\"shape\":[%d,1],\"data_offsets\":[%lld,%lld]}", at, ROWS, codes, scales);
        byte = scales;
    }
    ADD("}");
    for (; len % 64 != 56; len++) {
        header[len] = ' ';
    }
    FILE *file = fopen(path, "wb");
    uint64_t length = len;
    CHECK(file && fwrite(&length, 8, 1, file) == 1 && fwrite(header, 1, len, file) == len && fflush(file) == 0);
    long long all = 8 + (long long)len + byte;
    CHECK(ftruncate(fileno(file), all) == 0);
    fclose(file);
    free(header);
    return all;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    long long bytes = write_file(argv[1]);
    double took[TURNS];
    for (int turn = 0; turn < TURNS; turn++) {
        double begun = seconds();
        niwaki_artifact *artifact = open_path(argv[1]);
        took[turn] = (seconds() - begun) * 1e3;
        CHECK(niwaki_tensor_count(artifact) == TENSORS);
        niwaki_artifact_free(artifact);
    }
    unlink(argv[1]);
    qsort(took, TURNS, sizeof *took, by_size);
    printf("opening %lld bytes, %d tensors of two parts: best %.2f ms, median %.2f ms\n", bytes, TENSORS, took[0], took[TURNS / 2]);
    return took[0] > 2.0;
}
