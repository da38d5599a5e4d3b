import hdf.hdf5lib.H5;
import hdf.hdf5lib.HDF5Constants;

/** Reads frames of a movie (time, y, x) from HDF5: java ReadMovie movie.h5 /movie FIRST COUNT.
 *
 * HDF5_PLUGIN_PATH names the folder of the filter; see docs/how-to/hdf5.md. Needs jarhdf5 and its library.
 */
public class ReadMovie {
    public static void main(String[] arguments) throws Exception {
        long file = H5.H5Fopen(arguments[0], HDF5Constants.H5F_ACC_RDONLY, HDF5Constants.H5P_DEFAULT);
        long dataset = H5.H5Dopen(file, arguments[1], HDF5Constants.H5P_DEFAULT);
        long space = H5.H5Dget_space(dataset);
        long[] shape = new long[3];
        H5.H5Sget_simple_extent_dims(space, shape, null);

        long[] start = {Long.parseLong(arguments[2]), 0, 0};
        long[] count = {Long.parseLong(arguments[3]), shape[1], shape[2]};
        H5.H5Sselect_hyperslab(space, HDF5Constants.H5S_SELECT_SET, start, null, count, null);
        long memory = H5.H5Screate_simple(3, count, null);
        int[] signal = new int[(int) (count[0] * count[1] * count[2])];
        // HDF5 finds the filter anscombe in HDF5_PLUGIN_PATH, and converts the values to int.
        H5.H5Dread(dataset, HDF5Constants.H5T_NATIVE_INT32, memory, space, HDF5Constants.H5P_DEFAULT, signal);

        long sum = 0;
        for (int value : signal) sum += value;
        System.out.println(shape[0] + " " + shape[1] + " " + shape[2] + " " + signal[0] + " " + sum);
        H5.H5Dclose(dataset);
        H5.H5Fclose(file);
    }
}
